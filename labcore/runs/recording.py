"""Make a file of the gallery out of a run that was trained: its figures whole, its maps thinned, no weights."""

import io
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from labcore.configs.base import ConfigError
from labcore.configs.recordings import RECORDINGS
from labcore.runs import gallery, map_files
from labcore.runs.errors import UnknownRun
from labcore.runs.events import to_line
from labcore.runs.files import write_atomically
from labcore.runs.gallery import FACTS, LARGEST, Facts
from labcore.runs.map_files import MapFile
from labcore.runs.store import Store

Arrays = Mapping[str, np.ndarray]
_LAYERS = ""  # the family of what a map says of whole layers
_FEATURES = "seen"  # that of feature maps, whose arrays belong together


def write(store: Store, run: str, name: str) -> Path:
    """Write a complete run of the store into the gallery as the recording of this name, whole or not at all.

    Of its maps there is what they say of whole layers, at every moment. What they say of single weights and pictures
    is there at the ends of stages alone, family by family, the smallest first, as long as the file has room.

    Returns:
        The file.

    Raises:
        UnknownRun: There is no such run.
        ConfigError: Even without those it is larger than a file of the gallery may be.
        MapError: A map cannot be read.
        OSError: The system refuses.
    """
    told = store.fold(run)
    texts = {
        FACTS: Facts.of(RECORDINGS[name], store.record(run).key, told).model_dump_json(indent=2),
        "config.json": store.config(run).model_dump_json(indent=2),
        "result.json": json.dumps(store.result(run).model_dump(mode="json"), indent=2, allow_nan=False),
        "events.jsonl": b"".join(map(to_line, store.tail(run)[0])).decode(),
    }
    maps = {moment.path: _read(store.folder(run) / moment.path) for moment in told.maps}
    ends = [moment.path for moment in told.maps if moment.kind == "stage"]
    sizes = Counter[str]()
    for path in ends:
        for array, value in maps[path].items():
            sizes[_family(array)] += value.nbytes
    kept = [_LAYERS]
    data = _zip(texts, maps, ends, kept)
    if len(data) > LARGEST:
        raise ConfigError(
            f"The recording {name} would have {len(data):,} bytes; a file of the gallery has {LARGEST:,}."
        )
    for family in sorted(sizes.keys() - {_LAYERS}, key=lambda family: sizes[family]):
        if len(more := _zip(texts, maps, ends, [*kept, family])) <= LARGEST:
            kept, data = [*kept, family], more
    file = gallery.FOLDER / f"{name}.zip"
    write_atomically(file, data)
    file.chmod(0o644)  # it ships with the lab
    return file


def is_current(name: str) -> bool:
    """Whether the gallery has a whole recording of this name, of what it is a recording of today."""
    try:
        gallery.opened(name)
    except UnknownRun:
        return False
    return True


def _read(path: Path) -> Arrays:
    opened = MapFile(path)
    try:
        return {name: opened.read(name) for name in opened.names}
    finally:
        opened.close()


def _family(array: str) -> str:
    if array.startswith(_FEATURES):
        return _FEATURES
    family, slash, _ = array.partition("/")
    return family if slash else _LAYERS


def _zip(texts: Mapping[str, str], maps: Mapping[str, Arrays], ends: Collection[str], kept: Collection[str]) -> bytes:
    """A file of the gallery, with these families of arrays at stages' ends."""
    file = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed,
    ):
        for name, text in texts.items():
            packed.writestr(name, text)
        for path, arrays in maps.items():
            families = kept if path in ends else (_LAYERS,)
            thinned = Path(folder) / "map.npz"
            map_files.save(thinned, {name: value for name, value in arrays.items() if _family(name) in families})
            packed.write(thinned, path)
    return file.getvalue()
