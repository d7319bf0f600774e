"""The two lines of the house, as they hold at run time: pages never load torch, the engine never loads Streamlit.

Which room may know which is held by import-linter, whose contracts stand in pyproject.toml.
"""

from pathlib import Path

import pytest

import labcore
from labcore.configs.run import RunConfig
from labcore.networks.fisher import fisher_diagonal
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.training.loop import train
from tests.conftest import in_fresh_process

ROOMS = Path(labcore.__file__).parent
HEAVY = ("torch", "torchvision", "sklearn", "streamlit", "codecarbon", "optuna")
NEEDS_TORCH = ("labcore.runs.checkpoints", "labcore.runs.reductions")  # which only training uses

# Imports modules one after the other, and names the first that brings what it must not.
ONE_BY_ONE = """
import importlib, sys
modules, refused = sys.argv[1].split(), set(sys.argv[2].split())
for module in modules:
    importlib.import_module(module)
    loaded = refused & {name.split(".")[0] for name in sys.modules}
    assert not loaded, f"{module} loads {loaded}"
"""


def loaded(module: str) -> set[str]:
    code = f"import {module}, sys; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    return set(in_fresh_process(code).split())


def modules_of(room: str) -> list[str]:
    files = sorted((ROOMS / room).rglob("*.py"))
    return [".".join(file.relative_to(ROOMS.parent).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_what_pages_use_loads_no_torch() -> None:
    rooms = ("tasks", "configs", "runs", "studies", "drawings", "cli")
    modules = [name for room in rooms for name in modules_of(room) if name not in NEEDS_TORCH]
    modules += [name for name in modules_of("methods") if name.endswith((".about", ".maps"))]
    in_fresh_process(ONE_BY_ONE, " ".join(["labcore", *modules, "labcore.training.worker"]), " ".join(HEAVY))


def test_what_pages_ask_for_loads_no_torch() -> None:
    """Countries without what measures, and the kinds of map that methods bring along."""
    used = (
        "labcore.runs.energy, labcore.drawings.inside.registry as kinds; "
        "assert len(labcore.runs.energy.countries()) > 200; "
        "assert 'owners' in kinds.kinds(); "
        "import labcore.runs.store"
    )
    assert not {"torch", "codecarbon", "pandas", "streamlit"} & loaded(used)


def test_engine_loads_no_streamlit() -> None:
    rooms = sorted(path.name for path in ROOMS.iterdir() if (path / "__init__.py").is_file())
    in_fresh_process(ONE_BY_ONE, " ".join(name for room in rooms for name in modules_of(room)), "streamlit")


def test_torchvision_can_be_imported_after_the_engine() -> None:
    engine = "labcore.networks.backbones, labcore.networks.fisher, labcore.training.loop"
    in_fresh_process(f"import {engine}, torchvision, torchvision.models, torchvision.transforms")


def test_public_names_are_loaded_when_they_are_asked_for() -> None:
    public = ("RunConfig", "Store", "fisher_diagonal", "fold", "train")
    assert (labcore.RunConfig, labcore.Store, labcore.fisher_diagonal) == (RunConfig, Store, fisher_diagonal)
    assert (labcore.fold, labcore.train) == (fold, train)
    assert set(public) <= set(dir(labcore))
    with pytest.raises(AttributeError, match="module 'labcore' has no attribute 'Trainer'"):
        labcore.Trainer  # type: ignore[attr-defined]  # noqa: B018
    code = (
        "import labcore, sys\n"
        f"assert set({public}) <= set(dir(labcore)), dir(labcore)\n"
        "assert labcore.RunConfig and labcore.Store and labcore.fold\n"
        "assert 'torch' not in sys.modules\n"
        "from labcore import fisher_diagonal\n"
        "assert 'torch' in sys.modules and fisher_diagonal is labcore.fisher_diagonal"
    )
    in_fresh_process(code)
