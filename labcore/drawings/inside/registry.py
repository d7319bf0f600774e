"""The kinds of map that there are, and those that a run has."""

import functools

from labcore.drawings.inside.importance import IMPORTANCE
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.masks import MASKS
from labcore.drawings.inside.movement import BROKE, DRIFT
from labcore.drawings.inside.owners import OWNERS
from labcore.drawings.inside.representation import REPRESENTATION
from labcore.runs.moments import Book
from labcore.runs.results import Fold


@functools.cache
def kinds() -> dict[str, MapKind]:
    """All kinds by name, in the order of the switch."""
    found = [IMPORTANCE, DRIFT, BROKE, OWNERS, MASKS, REPRESENTATION]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.place)}


def kinds_of(book: Book, fold: Fold) -> list[MapKind]:
    """The kinds that this run has so far.

    A kind that it has is in some stage's last map or in the latest one: looking for a missing kind opens no others.
    """
    moments = [moment for moment in fold.maps if moment.kind == "stage" or moment is fold.maps[-1]]
    return [kind for kind in kinds().values() if any(book.last(moments, name) is not None for name in kind.needs)]
