"""What goes wrong in a store, each said in one plain sentence that also says what to do.

Pages show these sentences and the command line prints them, so that nobody meets a traceback for a full disk or for a
run that another person deleted meanwhile.
"""

import errno
import os
from pathlib import Path

from labcore.configs.base import ConfigError


class StoreError(RuntimeError):
    """The folder of the store cannot be used as it was asked."""


class UnknownRun(ConfigError):
    """There is no run of this ID."""


class Busy(StoreError):
    """Somebody else is the writer, or there is nothing to write."""


def no_such_run(run: str) -> UnknownRun:
    """The error for an ID that no run has. What a stranger sends as an ID is cut to 80 characters."""
    return UnknownRun(f"There is no run {run[:80]!r}; `list` shows those there are.")


def unusable(root: Path, error: OSError) -> StoreError:
    """The error for a store at `root` that the system, or its database, refuses to write."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(f"The store {root} cannot be written ({reason}); {_what_to_do(error)}")


def refused(error: OSError) -> str:
    """What the system refused, in a sentence for the person."""
    reason = error.strerror or str(error)
    where = f" {error.filename}" if error.filename else ""
    return f"The system refused to read or write{where} ({reason}); {_what_to_do(error)}"


def _what_to_do(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "free some space, as by deleting runs that you no longer need: `list` shows them, `delete RUN` still works."
        )
    return "set REUSE_LAB_HOME to a folder that can, or free some space."
