"""Files that are downloaded on first use: weights and data sets that others publish.

A file is either there and the right one, by its hash, or it is not there: a download goes to a temporary file first.
Somebody without a network can put the file there by hand. No torch here: pages know of these files too.
"""

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# The bytes so far, and the bytes in all, which are None where the server does not say.
Progress = Generator[tuple[int, int | None], None, None]

_CHUNK = 1 << 18
# How long a server may be silent, in seconds. A stop is heeded between two pieces of a file, so it waits at most this
# long.
_TIMEOUT_SECONDS = 15.0


class DownloadError(RuntimeError):
    """A file is not there, or is not the right one. The message is a plain sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A published file, kept in `folder` below the store.

    `digest`, in hex digits, is its MD5 (32 digits) or its SHA-256 (64 digits, or as many of its first ones as are
    known). `installed` is where a package of the system puts the same contents; what is there is taken as it is.
    """

    url: str
    digest: str
    folder: str
    installed: Path | None = None

    @property
    def name(self) -> str:
        """The file's name, as published."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def algorithm(self) -> str:
        """The hash function that `digest` is made with."""
        return "md5" if len(self.digest) == 32 else "sha256"

    @property
    def is_installed(self) -> bool:
        """Whether a package of the system has brought the file."""
        return self.installed is not None and self.installed.is_file()

    def path(self, root: Path) -> Path:
        """Where the file lies, or will lie, for the store at `root`."""
        return self.installed if self.installed and self.is_installed else root / self.folder / self.name


def fetch(file: File, root: Path) -> Progress:
    """See to it that the file is below the store at `root`.

    While it is downloaded this yields how far it is; where the file is there already, it yields nothing. Whoever closes
    the generator ends the download, and nothing of it is left. Raises DownloadError where the file cannot be had, and
    OSError where the disk refuses.
    """
    if file.is_installed:
        return
    path = file.path(root)
    if path.exists():
        about = path.stat()
        if not _is_right(file, _digest(path, file.algorithm, about.st_size, about.st_mtime_ns)):
            raise DownloadError(
                f"{path} is not the file that was published as {file.name}: its {_says(file)}; delete it, and resume "
                "this run to download it again."
            )
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A number that no other process has: process numbers may be the same in two containers that share the folder.
    temporary = path.with_name(f".{path.name}.{secrets.randbits(64)}")
    try:
        yield from _download(file, path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _download(file: File, path: Path, temporary: Path) -> Progress:
    """Write what the server sends, and hold it against the hash."""
    by_hand = f"resume this run to try again, or put the file from {file.url} into {path.parent} yourself."
    request = urllib.request.Request(file.url, headers={"User-Agent": "reuse-lab"})
    digest, done = hashlib.new(file.algorithm, usedforsecurity=False), 0
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{file.name} could not be downloaded ({_reason(error)}); {by_hand}") from None
    with response, temporary.open("wb") as output:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        yield 0, total
        while True:
            try:
                data = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(f"The download of {file.name} broke off ({_reason(error)}); {by_hand}") from None
            if not data:
                break
            output.write(data)
            digest.update(data)
            done += len(data)
            yield done, total
        if total is not None and done < total:
            raise DownloadError(f"The download of {file.name} broke off after {done:,} of {total:,} bytes; {by_hand}")
        if not _is_right(file, digest.hexdigest()):
            raise DownloadError(f"What was downloaded as {file.name} is another file: its {_says(file)}; {by_hand}")
        output.flush()
        os.fsync(output.fileno())


def _is_right(file: File, digest: str) -> bool:
    return digest.startswith(file.digest)


def _says(file: File) -> str:
    name = "MD5" if file.algorithm == "md5" else "SHA-256"
    return f"{name} does not {'begin with' if len(file.digest) < 32 else 'equal'} {file.digest}"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, TimeoutError):
        return "the server is silent"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


@lru_cache(maxsize=64)
def _digest(path: Path, algorithm: str, size: int, modified: int) -> str:
    """The file's hash, which a process computes once: a file of the same size and time of change is the same file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
