"""The kinds of map that there are: those that every run has and those that methods bring along; and which a run has."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence

from labcore import plugins
from labcore.configs.method import About
from labcore.configs.registry import ABOUT
from labcore.drawings.inside.importance import IMPORTANCE
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.movement import BROKE, DRIFT
from labcore.drawings.inside.representation import REPRESENTATION
from labcore.runs.moments import Book
from labcore.runs.results import Fold

COMMON = (IMPORTANCE, DRIFT, BROKE, REPRESENTATION)


@functools.cache
def kinds() -> dict[str, MapKind]:
    """All kinds by name, in the order of the switch.

    A method brings some along by the module `maps` beside its `about`, which holds them as `KINDS`. What
    cannot be used is told in a sentence (`labcore.plugins.problems`), and the lab goes on without it.
    """
    found = {kind.name: kind for kind in COMMON}
    for about in ABOUT.values():
        try:
            brought = _brought_by(about)
            if taken := sorted({kind.name for kind in brought} & found.keys()):
                raise ValueError(f"the name {taken[0]!r} of a kind of map is taken already")
        except Exception as error:  # whatever a method brings, the lab goes on
            plugins.leave_out(f"The maps of {about.name!r} in {about.package} are", error)
            continue
        found |= {kind.name: kind for kind in brought}
    return dict(sorted(found.items(), key=lambda pair: pair[1].place))


def _brought_by(about: About) -> Sequence[MapKind]:
    """The kinds that a method brings along; none where it has no module `maps`."""
    module = f"{about.package}.maps"
    if importlib.util.find_spec(module) is None:
        return ()
    brought: Sequence[MapKind] | None = getattr(importlib.import_module(module), "KINDS", None)
    if brought is None or not all(isinstance(kind, MapKind) for kind in brought):
        raise ValueError("its KINDS must be of type labcore.drawings.inside.kind.MapKind")
    return brought


def kinds_of(book: Book, fold: Fold) -> list[MapKind]:
    """The kinds that this run has so far.

    A kind that it has is in some stage's last map or in the latest one: looking for a missing kind opens no others.
    """
    moments = [moment for moment in fold.maps if moment.kind == "stage" or moment is fold.maps[-1]]
    return [kind for kind in kinds().values() if any(book.last(moments, name) is not None for name in kind.needs)]
