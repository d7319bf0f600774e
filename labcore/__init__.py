"""The engine of Reuse Lab: reuse one network for many tasks, and measure what it forgets.

It stands in rooms, of which each may know those before it: tasks, configs, networks, runs, studies, drawings, methods,
training, cli. It knows nothing of the pages. The names below are those that a notebook needs; each is loaded when it
is first asked for, so that `import labcore` brings no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig as RunConfig
    from labcore.networks.fisher import fisher_diagonal as fisher_diagonal
    from labcore.runs.results import fold as fold
    from labcore.runs.store import Store as Store
    from labcore.training.loop import train as train

_PUBLIC = {
    "RunConfig": "labcore.configs.run",
    "Store": "labcore.runs.store",
    "fisher_diagonal": "labcore.networks.fisher",
    "fold": "labcore.runs.results",
    "train": "labcore.training.loop",
}

if not TYPE_CHECKING:  # a type checker reads the imports above, and would take every other name for one of these

    def __getattr__(name):
        """One of the public names, from the room that it lives in."""
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(importlib.import_module(_PUBLIC[name]), name)
        return found

    def __dir__():
        """The names that are loaded, and the public ones that are not yet."""
        return sorted({*globals(), *_PUBLIC})
