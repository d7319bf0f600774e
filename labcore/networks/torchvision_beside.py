"""torchvision beside a CPU-only torch: made importable, in one place, and only where it is not.

What a trunk is and what the Fisher diagonal is call `make_importable` when they are loaded, so that whoever has
imported the engine can write `import torchvision`.
"""

import importlib.machinery
import importlib.util
import sys

import torch

# The library that declared the operators. It is kept because torch forgets them once it is gone.
_operators: torch.library.Library | None = None


def make_importable() -> None:
    """See to it that `import torchvision` works in this process, here and wherever else it is written.

    torchvision's compiled part wants CUDA libraries. Beside a CPU-only torch it does not load, torchvision passes over
    that in silence, and then fails with "operator torchvision::nms does not exist". Declaring the two operators that
    it asks for is enough for its models and transforms (not for calling them).

    torchvision takes longer to import than torch and most runs do not need it. So the first question is whether its
    compiled part loads, by the steps that torchvision itself takes (a millisecond); only where it does not is the
    plain import tried, and only where that fails as above are the operators declared. That failure comes early, too.
    Raises what the plain import raises for any other reason.
    """
    global _operators
    if "torchvision" in sys.modules or _operators is not None:
        return
    package = importlib.util.find_spec("torchvision")
    if package is None or package.submodule_search_locations is None:
        return
    compiled = importlib.machinery.PathFinder.find_spec("_C", list(package.submodule_search_locations))
    if compiled is not None and compiled.origin is not None:
        try:
            torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]  # loading it once more, as torchvision will, does nothing
            return
        except OSError:
            pass
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _operators = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _operators.define(schema)  # type: ignore[no-untyped-call]
