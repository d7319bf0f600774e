"""Which methods there are: those in the folders of labcore/methods, and those that other packages announce.

Nothing here names a method. A folder `labcore/methods/NAME/` with an `about.py` is a method, and so is an object of
type `About` that an installed package announces by an entry point in the group `reuse_lab.methods`. One that
lacks a part is refused in a sentence that names the method and the part (`labcore.plugins.problems`), and the lab goes
on without it. No torch here: pages read this module.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labcore import plugins
from labcore.configs.method import About, MethodConfig, MethodError

_GROUPS = ("article", "today")
# The folder of the lab's own methods, each in a folder of its own.
HOME = Path(__file__).parents[1] / "methods"


def _built_in() -> Iterator[About]:
    """The methods in the lab's own folders; one that lacks a part is left out, and told in a sentence."""
    for folder in pkgutil.iter_modules([str(HOME)]):
        about = f"labcore.{HOME.name}.{folder.name}.about"
        if not folder.ispkg or importlib.util.find_spec(about) is None:
            continue
        try:
            yield _of(folder.name, getattr(importlib.import_module(about), "ABOUT", None))
        except Exception as error:  # whoever is writing a method sees what is wrong with it, and the lab goes on
            plugins.leave_out(f"The method in labcore/{HOME.name}/{folder.name} is", error)


def _of(name: str, announced: Any) -> About:
    """Take what was found under a name. Raises MethodError where it is not a method of this name."""
    if not isinstance(announced, About):
        raise MethodError(f"The method {name!r} has no ABOUT of type labcore.configs.method.About")
    if announced.name != name:
        raise MethodError(f"The method {name!r} has the name {announced.name!r} in its ABOUT; the two must be the same")
    return announced


def _discovered() -> dict[str, About]:
    """All methods by name, in the order in which pages and tables show them."""
    found = {about.name: about for about in _built_in()}
    found |= plugins.load("reuse_lab.methods", accept=_of, taken=found)
    return dict(sorted(found.items(), key=lambda pair: (_GROUPS.index(pair[1].group), pair[1].place, pair[0])))


ABOUT: dict[str, About] = _discovered()
METHODS: dict[str, type[MethodConfig]] = {name: about.settings for name, about in ABOUT.items() if about.settings}


def of_group(group: str) -> list[About]:
    """The methods of a group, `article` or `today`, in order."""
    return [about for about in ABOUT.values() if about.group == group]


def version_of(name: str) -> int:
    """The version of a method; 1 for one that is not installed."""
    return ABOUT[name].version if name in ABOUT else 1
