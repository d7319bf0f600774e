"""The database of the records: text by name, for all processes, and made anew where the file of it is damaged.

It is diskcache's, which keeps it in SQLite (HOME/records/cache.db). It holds text alone and never evicts; a pickled
value, which only a stranger can have put there, is not opened and counts as damage.

Laws that hold whoever comes and goes, `kill -9` included:

- What is in it can be made anew from the folders of runs, which `fill` does. So a file that cannot be read is put aside
  (HOME/records.damaged-TIME) and never written to again, and a new one takes its place in one step.
- A process that had the old file open finds the new one at its next question.
- Where nothing can be written (a read-only disk, or a full one whose reserve is spent), a copy of the file is read, or
  what `fill` makes of the folders, and whoever wants to change something is told why not.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE, MODE_RAW

from labcore.runs import files
from labcore.runs.errors import StoreError, unusable
from labcore.runs.files import NO_ROOM, Reserve, temporary_beside

# What SQLite says where not the file is at fault but what surrounds it.
_FULL, _BUSY = {sqlite3.SQLITE_FULL}, {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM}

_STAMP = "stamp"  # the name whose text changes whenever another one does
_TOLD_FOR = 3600.0  # seconds for which it is told that something was put right

Identity = tuple[int, ...] | None


class _Damaged(Exception):
    """The file is not what was written; the text says how that was seen."""


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """The form in which diskcache stores values, held to text."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if not isinstance(value, str):
            raise TypeError(f"only text is stored, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            return None
        try:
            return super().fetch(mode, filename, value, read)
        except (OSError, ValueError, TypeError):  # a value that a flipped bit sent to look for a file
            return None

    def get(self, key: Any, raw: bool) -> Any:
        return key if raw else None  # a pickled key


class Database:
    """Text by name. Raises StoreError, in one sentence, and OSError where the disk refuses.

    Attributes:
        read_only: Why nothing can be changed, in the system's words; None where it can.
        damage: What is wrong with a file that can only be read, so that it stays as it is; None where it is whole.
    """

    def __init__(self, root: Path, fill: Callable[[], None], reserve: Reserve) -> None:
        """Prepare to `open` the database of the store at `root`.

        Args:
            root: The folder of the store.
            fill: Puts into the database, by `set`, what the folders of runs hold and it does not. It is called whenever
                the file was opened.
            reserve: What is given up where the disk is full.
        """
        self.root, self.folder = root, root / "records"
        self.read_only: str | None = None
        self.damage: str | None = None
        self._noted: dict[str, float] = {}  # sentences, and when they were said
        self._fill, self._reserve = fill, reserve
        self._own = threading.local()  # what a thread has of a transaction, and whether it fills a new file
        self._opening = threading.RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._identity: Identity = None
        self._refusal = OSError("it is not open")

    # ---- reading and changing ---------------------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        """The text of this name; None where there is none, and where what is there is no text."""

        def read(cache: Any) -> Any:
            try:
                return cache.get(name)
            except sqlite3.OperationalError as error:
                if "decode" in str(error):  # one text is damaged, and not the file
                    return None
                raise

        value = self._ask(read)
        return value if isinstance(value, str) else None

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._ask(lambda cache: [name for name in cache if isinstance(name, str)]))

    def texts(self, prefix: str) -> dict[str, str | None]:
        """All texts whose names begin with `prefix`, by name, in one question; None for what is no text."""

        def read(cache: Any) -> Any:
            # diskcache itself gives out one value at a time. Values are asked for as bytes, for the damaged ones' sake.
            question = "SELECT key, mode, CAST(value AS BLOB) FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
            return cache._sql(question, (prefix, prefix + chr(0x10FFFF))).fetchall()

        return {
            name: _decoded(value) if mode == MODE_RAW else None
            for name, mode, value in self._ask(read)
            if isinstance(name, str)
        }

    def stamp(self) -> str | None:
        """A text that is another one after every change; None in a transaction, whose changes nobody else sees yet."""
        return None if getattr(self._own, "cache", None) is not None else self.get(_STAMP) or ""

    def set(self, name: str, text: str) -> None:
        """Overwrite the text of a name."""
        with self.transact():
            self._own.cache.set(name, text)
            self._own.cache.set(_STAMP, secrets.token_hex(8))

    def delete(self, name: str) -> None:
        """Remove a name, if it is there."""
        with self.transact():
            self._own.cache.delete(name)
            self._own.cache.set(_STAMP, secrets.token_hex(8))

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """A block in which all other writers wait; where it raises, nothing is changed. It may stand in another."""
        if getattr(self._own, "cache", None) is not None:
            yield
            return
        files.about_to_write(self.folder / "cache.db")
        seen = self._identity
        cache, block = self._begin()
        self._own.cache = cache
        try:
            with self._told(cache), block:
                yield
                files.about_to_write(self.folder / "cache.db")
        except _Damaged as damage:
            self._own.cache = None
            self.make_anew(str(damage), seen)
            raise StoreError(
                f"The records were damaged ({damage}) and are made anew. Nothing was changed; try again."
            ) from None
        finally:
            self._own.cache = None

    def close(self) -> None:
        """Close the connection of this thread. A later call opens it again."""
        self._cache.close()

    @property
    def notes(self) -> list[str]:
        """What was found damaged and put right within the last hour, a sentence each."""
        return [text for text, at in list(self._noted.items()) if time.monotonic() - at < _TOLD_FOR]

    def note(self, text: str) -> None:
        """Say what was put right."""
        kept = {other: self._noted[other] for other in self.notes}
        self._noted = {**kept, text: time.monotonic()}

    def problem(self) -> str | None:
        """What is wrong with the file, looked through from end to end; None where it is whole."""
        if self.read_only:
            return self.damage
        try:
            self._verify(self.folder)
        except _Damaged as damage:
            return str(damage)
        return None

    def make_room(self) -> bool:
        """Open the file again where it could not be written before and now can be; whether it can be written now.

        Raises StoreError where it is not for want of room that it cannot.
        """
        with self._opening:
            if self.read_only:
                with contextlib.suppress(OSError):
                    self._try_the_folder()
                    self.open()
            if self.read_only and self._refusal.errno not in NO_ROOM:
                raise self._unusable()
            return not self.read_only

    # ---- opening ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file, or what stands in for it, and fill in what it lacks; perhaps again, as when room was made.

        Raises StoreError where it can be neither written nor read.
        """
        with self._opening:
            self.read_only = self.damage = None
            try:
                self._reserve.give_for(self._connect_or_make_anew)
            except OSError as error:
                self._read_copy(error)
            self._fill_in()

    def _connect_or_make_anew(self) -> None:
        seen = self._look()
        try:
            self._connect()
        except _Damaged as damage:
            self.make_anew(str(damage), seen)

    def _connect(self) -> None:
        """Raises OSError where the system refuses, and _Damaged."""
        self._verify(self.folder)
        with self._told(None):
            self._cache = self._diskcache(self.folder)
            self._identity = self._look()

    def _diskcache(self, folder: Path) -> Any:
        # It is opened here and nowhere else, because diskcache keeps these settings in the file.
        try:
            return diskcache.Cache(
                str(folder),
                disk=_TextDisk,
                eviction_policy="none",
                statistics=0,
                timeout=60,
                disk_min_file_size=1 << 30,  # all text in the one file
            )
        except (TypeError, ValueError, AttributeError, KeyError, AssertionError) as error:
            # What diskcache makes of settings that it reads in the file, and that are not those it wrote.
            raise _Damaged(f"{type(error).__name__}: {error}") from None

    def _fill_in(self) -> None:
        before = self._is_filling()
        self._own.filling = True
        try:
            self._fill()
        finally:
            self._own.filling = before

    def _is_filling(self) -> bool:
        """Whether this thread fills what was opened just now, which may be a copy."""
        return getattr(self._own, "filling", False)

    def _verify(self, folder: Path) -> None:
        """Look through the file in this folder by a connection of its own: 10 ms for 5,000 runs.

        Raises _Damaged, and OSError where it cannot be looked at.
        """
        path = folder / "cache.db"
        if not path.exists():
            return
        with self._told(None), contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found is None or found[0] != "ok":
                raise _Damaged(str(found and found[0]).splitlines()[-1])
            if path.stat().st_size:
                connection.execute("SELECT key, value FROM Settings LIMIT 1").fetchall()
                connection.execute("SELECT rowid, key, raw, mode, filename, value FROM Cache LIMIT 1").fetchall()

    def _look(self) -> Identity:
        """What tells this file from another one of its name; of a file that is read as a copy, also from itself later.

        None where it is not there.
        """
        path = self.folder / "cache.db"
        try:
            found = path.stat()
        except OSError:
            return None
        if not self.read_only:
            return found.st_dev, found.st_ino
        wal = path.with_name("cache.db-wal")
        there = wal.stat() if wal.exists() else None
        return (
            found.st_ino,
            found.st_mtime_ns,
            found.st_size,
            *((there.st_mtime_ns, there.st_size) if there else ()),
        )

    def _current(self) -> Any:
        """The open database, which is opened again where another process has put a new file in its place."""
        if self._look() != self._identity and not self._is_filling():
            with self._opening:
                if self._look() != self._identity:
                    self.open()
        return self._cache

    def _read_copy(self, error: OSError) -> None:
        """Read a copy of the file, because nothing can be written where it is. Raises StoreError."""
        self.read_only, self._refusal = error.strerror or str(error), error
        self._identity = self._look()
        for place in (None, "/dev/shm"):
            with contextlib.suppress(OSError, _Damaged):
                self._copy = tempfile.TemporaryDirectory(prefix="reuse-lab-records-", dir=place)
                for name in ("cache.db", "cache.db-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(self.folder / name, Path(self._copy.name) / name)
                try:
                    self._cache = self._told_cache()
                    return
                except _Damaged as damage:
                    self.damage = str(damage)
                    for left in Path(self._copy.name).iterdir():
                        left.unlink()
                    self._cache = self._told_cache()
                    return
        raise self._unusable()

    def _told_cache(self) -> Any:
        assert self._copy is not None
        self._verify(Path(self._copy.name))
        with self._told(None):
            return self._diskcache(Path(self._copy.name))

    # ---- damage -----------------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask the database, and ask again where it had to be made anew."""
        if (cache := getattr(self._own, "cache", None)) is not None:
            return question(cache)  # the transaction sees to what goes wrong
        for last in (False, True):
            seen, cache = self._identity, self._current()
            try:
                with self._told(cache):
                    return question(cache)
            except _Damaged as damage:
                if last or self.read_only:
                    raise StoreError(f"The records of {self.root} cannot be read ({damage}).") from None
                self.make_anew(str(damage), seen)

    def _begin(self) -> tuple[Any, contextlib.ExitStack]:
        """Begin a transaction. Raises OSError, and StoreError where others keep the records for a minute."""
        for _ in range(3):
            seen, block = self._identity, contextlib.ExitStack()
            with self._opening:  # so that what is written to is what `read_only` speaks of
                cache = self._current()
                if self.read_only and not self._is_filling():
                    if not self.make_room():
                        raise self._unusable()
                    cache = self._cache
            try:
                block.enter_context(cache.transact())
                return cache, block
            except diskcache.Timeout:  # diskcache's word for whatever keeps a transaction from beginning
                cache.close()
            except sqlite3.Error:
                cache.close()
            try:
                self._reserve.give_for(self._try_to_write)
            except _Damaged as damage:
                self.make_anew(str(damage), seen)
        raise StoreError(f"The records of {self.root} are in use by another process; try again.")

    def _try_to_write(self) -> None:
        """Raises what `_told` says."""
        self._verify(self.folder)
        path = self.folder / "cache.db"
        with self._told(None), contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE Settings SET value = value")
            connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _told(self, cache: Any) -> Iterator[None]:
        """Turn what SQLite raises in the block into OSError, StoreError or _Damaged; `cache` then begins anew."""
        try:
            yield
        except (sqlite3.Error, diskcache.Timeout, UnicodeDecodeError) as raised:
            error = _first(raised)
            if cache is not None:
                with contextlib.suppress(sqlite3.Error):
                    cache.close()
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if isinstance(error, diskcache.Timeout) or code in _BUSY:
                raise StoreError(f"The records of {self.root} are in use by another process; try again.") from None
            if code in _FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            if code in _REFUSED:
                self._try_the_folder()  # where that is refused, too, it is not the file
            elif cache is not None:
                self._verify(self.folder)
                if code == sqlite3.SQLITE_ERROR:
                    raise StoreError(f"The records of {self.root} were refused ({error}); try again.") from None
            raise _Damaged(str(error)) from None

    def _try_the_folder(self) -> None:
        """Write and remove a little where the file lies. Raises OSError where the system refuses."""
        path = temporary_beside(self.folder / "try")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with path.open("wb") as file:
                file.write(bytes(1 << 17))
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def make_anew(self, why: str, seen: Identity = None) -> None:
        """Put the damaged file aside, with all that lies beside it, and open a new one, filled from the folders.

        Args:
            why: How it is damaged.
            seen: Which file that was. Where another one is in its place that is whole, this one is opened instead,
                because another thread or process has made it meanwhile.
        """
        with self._opening, self._alone():
            if self._look() not in (seen, None):
                with contextlib.suppress(_Damaged):
                    self._connect()
                    return
            kept = self._what_is_kept_nowhere_else()
            aside = self.root / f"records.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            number = 0
            while aside.exists():
                number += 1
                aside = aside.with_name(f"{aside.name.split('.')[0]}.{aside.name.split('.')[1]}.{number}")
            if self.folder.exists():
                os.rename(self.folder, aside)
            self.folder.mkdir(mode=0o700)
            with self._told(None):
                self._cache = self._diskcache(self.folder)
            self._identity = self._look()
            self.note(
                f"The records were damaged ({why.rstrip('.')}), so they were made anew from the runs' folders; the "
                f"damaged ones are kept in {aside.name}."
            )
            for name, text in kept.items():
                self.set(name, text)
            self._fill_in()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A block in which no other process puts a new file in place."""
        lock = os.open(self.root / "records.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _what_is_kept_nowhere_else(self) -> dict[str, str]:
        """What workers told of this machine, as far as the damaged file still says it."""
        kept = {}
        path = self.folder / "cache.db"
        for name in ("workers", "devices"):
            with (
                contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
                contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection,
            ):
                found = connection.execute("SELECT value FROM Cache WHERE key = ?", (name,)).fetchone()
                if found is not None and isinstance(found[0], str):
                    kept[name] = found[0]
        return kept

    def _unusable(self) -> StoreError:
        return unusable(self.root, self._refusal)


def _first(error: BaseException) -> BaseException:
    """The error that began it: SQLite ends a transaction that has gone wrong by itself, and to end it again fails."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    return error


def _decoded(value: Any) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None
