"""What a run will cost, before it starts: seconds and memory, from this machine's own measured speed. No torch here.

A page that asks for the speed of a backbone at a picture size wishes for it; a worker that has nothing else to do
measures it (labcore/training/speed.py) and keeps it. From then on an estimate is arithmetic: images times milliseconds.
"""

import contextlib
import functools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from labcore.configs.base import Frozen
from labcore.configs.catalogue import BACKBONES
from labcore.configs.looking import (
    MAP_PICTURE_COST,
    MAPS,
    MAPS_OF_A_STILL_TRUNK,
    STILL_LOOKS,
    TIMED_PASSES,
    TIMED_PICTURES,
    live_looks,
    map_pictures,
)
from labcore.configs.method import Cost
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.runs.files import write_atomically
from labcore.runs.settings import Detail
from labcore.runs.stage_keys import shared_stages
from labcore.runs.store import Store
from labcore.tasks import catalogue
from labcore.version import ENGINE_VERSION

# As in the loop, which this module must not import: how many images are looked at in one batch.
_CHUNK = 50
# As in the maps, which this module must not import: images for importance at a stage's end.
_MAP_END_IMAGES = 100
# As in the Fisher diagonal: images at once, and numbers in them.
_FISHER_CHUNK, _FISHER_NUMBERS = 64, 64 * 3 * 64 * 64
# A promise reaches from an estimate to so many times it: within this factor it held wherever it was measured
# (docs/performance.md), and other programs make a machine slower, never quicker.
PROMISED = 1.5
# A weight in training: itself, its gradient, Adam's two means; float32.
_BYTES_A_TRAINED_WEIGHT = 16
# What torch's own libraries take in a process's first steps: 80 to 110 MB measured.
_LIBRARIES = 100_000_000
# A picture whose squared gradients are measured holds so many times what one holds that is learnt.
_MEASURED_COST = 1.4
# A speed that was measured while others used more of the processors than this is measured again, after so many seconds.
_DISTURBED, _MEASURE_AGAIN = 0.25, 60.0
# A step in bfloat16 that takes so many times one in float32 is slower for sure; two measurements differ by less.
SLOWER = 1.1
_NAME = re.compile(r"(?P<device>[a-z0-9-]+)_(?P<backbone>[a-z0-9_]+)_(?P<size>[0-9]+)\.(json|wish)")


class Speed(Frozen):
    """Measured on a device for a backbone at a picture size (px); times in milliseconds, memory in bytes.

    A step on B images takes `step_ms` + B · `image_ms`; a step of a head on kept features `head_step_ms`; a picture in
    a batch of 100, forward only, `forward_ms`; a picture by itself `single_ms`. `activation_bytes` is what one image
    holds for the backward pass, `features` the numbers that describe it. `others` is the share of the machine's
    processors that other programs used meanwhile, 0 to 1. `engine` is the version of the engine that was measured. All
    steps are in float32; one in bfloat16 takes `bfloat16` times as long, which is None where nobody asked for it.
    """

    device: str
    backbone: str
    image_size: int
    step_ms: float
    image_ms: float
    head_step_ms: float
    forward_ms: float
    single_ms: float
    activation_bytes: int
    features: int
    weights: int
    others: float
    engine: str
    bfloat16: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether other programs made the machine look slower than it is."""
        return self.others > _DISTURBED


class Wish(NamedTuple):
    """A backbone at a picture size (px) that somebody wants measured, with `bfloat16` in these numbers too."""

    backbone: str
    image_size: int
    bfloat16: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds to the end of a run on a warm worker, and bytes of memory at its peak."""

    seconds: float
    memory: float


# ---- what was measured ----------------------------------------------------------------------------------------------


def _path(store: Store, device: str, backbone: str, image_size: int) -> Path:
    return store.cache / "speeds" / f"{device.replace(':', '-')}_{backbone}_{image_size}.json"


def known(store: Store, device: str, config: RunConfig) -> Speed | None:
    """This machine's speed for the configuration's backbone, size and precision, if it was measured.

    Where it was not, or was disturbed a while ago, the device's worker will measure it when it has nothing else to do.
    """
    speed = kept(store, device, config)
    if speed is None or (
        speed.disturbed and time.time() - _path_of(store, device, config).stat().st_mtime > _MEASURE_AGAIN
    ):
        _wish(_path_of(store, device, config), _in_bfloat16(config))
    return speed


def kept(store: Store, device: str, config: RunConfig) -> Speed | None:
    """What is known by now, without a wish for more. What an older engine measured is not known."""
    path = _path_of(store, device, config)
    try:
        found = path.stat()
        speed = _read(path, found.st_mtime_ns, found.st_ino)
    except (OSError, ValueError):  # not there, or not one of this version
        return None
    complete = speed.bfloat16 is not None or not _in_bfloat16(config)
    return speed if complete and speed.engine == ENGINE_VERSION else None


def _path_of(store: Store, device: str, config: RunConfig) -> Path:
    return _path(store, device, config.backbone.name, config.backbone.image_size)


def _in_bfloat16(config: RunConfig) -> bool:
    return config.training.precision == "bfloat16"


@functools.lru_cache(maxsize=64)
def _read(path: Path, changed: int, inode: int) -> Speed:
    """A page asks every second: the file is read once for each time that it changed. Raises OSError, ValueError."""
    return Speed.model_validate_json(path.read_bytes())


def _wish(path: Path, bfloat16: bool) -> None:
    """Write down a wish; one for bfloat16 too is not taken back by one that needs less."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    wish = path.with_suffix(".wish")
    if bfloat16:
        wish.write_text("bfloat16")
    else:
        wish.touch()


def next_wish(store: Store, device: str) -> Wish | None:
    """What somebody wants measured on this device."""
    for path in _wishes(store):
        match = _NAME.fullmatch(path.name)
        if match and match["device"] == device.replace(":", "-") and match["backbone"] in BACKBONES:
            with contextlib.suppress(FileNotFoundError):  # fulfilled just now
                return Wish(match["backbone"], int(match["size"]), bool(path.read_text()))
    return None


def _wishes(store: Store) -> Iterator[Path]:
    return (store.cache / "speeds").glob("*.wish")


def keep(store: Store, speed: Speed) -> None:
    """Write down what was measured; the wish is fulfilled."""
    path = _path(store, speed.device, speed.backbone, speed.image_size)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, speed.model_dump_json().encode())
    path.with_suffix(".wish").unlink(missing_ok=True)


def forget_wish(store: Store, device: str, backbone: str, image_size: int) -> None:
    """Take a wish back: it cannot be measured here."""
    _path(store, device, backbone, image_size).with_suffix(".wish").unlink(missing_ok=True)


# ---- what follows from it -------------------------------------------------------------------------------------------


def estimate(config: RunConfig, speed: Speed, maps: Detail = "all") -> Estimate:
    """Seconds and bytes for the whole run: every stage, every measurement, and the maps that are to be recorded."""
    return together([config], [speed], maps)


def together(configs: Sequence[RunConfig], speeds: Sequence[Speed], maps: Detail = "all") -> Estimate:
    """The same for runs that train at once: what they learn alike is trained once, and all are in memory.

    Of each run the speed of its network at its size is given.
    """
    seconds, memory = 0.0, 0.0
    for number, (config, speed) in enumerate(zip(configs, speeds, strict=True)):
        shared = max((shared_stages(config, before) for before in configs[:number]), default=0)
        own = parts(config, speed, maps)[shared:]
        seconds += sum(part.milliseconds for stage in own for part in stage) / 1000
        memory += _memory(config, speed, _counts(config), maps)
    return Estimate(seconds, memory)


class Part(NamedTuple):
    """A part of a stage: how many images it trains on, counted with repetition, and what it takes with all it tells.

    A part without images is over when the next one begins, or when `told` was: the maps of the stage's end, or the
    accuracies on all validation or test pictures.
    """

    images: int
    milliseconds: float
    told: Literal["", "maps", "validation", "test"] = ""


def parts(config: RunConfig, speed: Speed, maps: Detail = "all") -> list[list[Part]]:
    """What each stage does, in order: the phases that it trains, and at its end what is measured, without images.

    Beyond the stages there is the run's own end, in which its answers are timed.
    """
    counts = _counts(config)
    found = [_stage_parts(config, speed, counts, stage, maps) for stage in range(1, len(counts) + 1)]
    return [*found, [Part(0, TIMED_PASSES * min(TIMED_PICTURES, counts[0][2]) * speed.single_ms)]]


def _counts(config: RunConfig) -> list[tuple[int, int, int]]:
    return [catalogue.counts(task.name, task.images_per_class) for task in config.tasks]


def _stage_parts(
    config: RunConfig, speed: Speed, counts: list[tuple[int, int, int]], stage: int, maps: Detail
) -> list[Part]:
    training, cost = config.training, _cost(config)
    images = counts[stage - 1][0]
    held = _still_share(config, stage)
    read = sum(counts[task - 1][0] for task in cost.tasks_read(stage))
    epochs, passes = cost.epochs(config, stage), cost.passes(config, stage)
    jobs = 1 if held == 1 or cost.isolates(config) else stage  # whose answers may change
    map_ms = MAP_PICTURE_COST * speed.image_ms if maps == "all" else 0.0
    found = [Part(0, images * cost.looked_at(config, stage) * speed.forward_ms)]
    if training.head_warmup_epochs > 0 and not cost.is_fresh(config, stage):
        looking = STILL_LOOKS.pictures * speed.forward_ms
        looking += MAPS_OF_A_STILL_TRUNK * map_pictures(0, MAPS_OF_A_STILL_TRUNK) * map_ms
        found += _phase_parts(config, speed, images, training.head_warmup_epochs, 1.0, 1, looking)
    for passed in epochs:
        looks = STILL_LOOKS if held == 1 else live_looks(read * passed, jobs)
        looking = looks.pictures * jobs * (looks.points * (1 - held) + held) * speed.forward_ms
        drawn = MAPS_OF_A_STILL_TRUNK if held == 1 else -(-MAPS // len(epochs))
        looking += drawn * map_pictures(0 if held == 1 else read * passed, drawn) * map_ms
        found += _phase_parts(config, speed, read, passed, held, passes, looking)
    return [*found, *_end_parts(config, speed, counts, stage, maps)]


def _end_parts(
    config: RunConfig, speed: Speed, counts: list[tuple[int, int, int]], stage: int, maps: Detail
) -> list[Part]:
    """The end of a stage: what the method measures and the maps, then the matrix."""
    cost, images = _cost(config), counts[stage - 1][0]
    stand = cost.isolates(config) and stage < len(counts)
    anew = counts[stage - 1 if stand else 0 : stage]
    validation, test = (speed.forward_ms * sum(count[split] for count in anew) for split in (1, 2))
    own = min(images, cost.measured_images(config, stage)) * speed.image_ms
    own += min(images, cost.measured_alone(config, stage)) * (speed.step_ms + speed.image_ms)
    drawn = 0 if maps == "none" or cost.measures_importance else _MAP_END_IMAGES
    inside = own + drawn * MAP_PICTURE_COST * speed.image_ms
    return [Part(0, inside, "maps"), Part(0, validation, "validation"), Part(0, test, "test")]


def _memory(config: RunConfig, speed: Speed, counts: list[tuple[int, int, int]], maps: Detail) -> float:
    """Bytes at the peak: weights, gradients, optimizer, pictures, kept features, activations, what the method keeps.

    Maps keep each task's weights and what mattered to it, where they move.
    """
    training, info, cost = config.training, BACKBONES[config.backbone.name], _cost(config)
    stages = range(1, len(counts) + 1)
    pictures = sum(map(sum, counts)) * config.backbone.image_size**2 * 3
    held = [_still_share(config, stage) for stage in stages]
    trained = speed.weights * (1 - min(held))
    read = [sum(counts[task - 1][0] for task in cost.tasks_read(stage)) for stage in stages]
    warms = training.head_warmup_epochs > 0
    features = max(count if share or warms else 0 for count, share in zip(read, held, strict=True))
    learning = training.batch_size * speed.activation_bytes if trained else 0
    looking = 2 * _CHUNK * speed.activation_bytes / len(info.blocks)  # forward only: a block's input and output
    measuring = 0.0
    if maps != "none" or cost.measures_importance:
        at_once = min(_FISHER_CHUNK, max(1, _FISHER_NUMBERS // (3 * config.backbone.image_size**2)))
        measuring = _MEASURED_COST * at_once * speed.activation_bytes
    return (
        _LIBRARIES
        + (4 + cost.bytes_a_weight(config)) * speed.weights
        + (_BYTES_A_TRAINED_WEIGHT - 4) * trained
        + pictures
        + 4 * speed.features * features
        + (8 * len(counts) * trained if maps != "none" else 0)
        + max(learning, looking)
        + measuring  # what a process had for steps is in other pieces than it needs then
    )


def _cost(config: RunConfig) -> Cost:
    """How the run's method says what it takes."""
    return ABOUT[config.method.name].cost


def _still_share(config: RunConfig, stage: int) -> float:
    """Which part of the trunk is run once over the pictures: none where normalisation is by task, as that learns."""
    return 0.0 if config.backbone.norm_by_task else _cost(config).still_share(config, stage)


def _phase_parts(
    config: RunConfig, speed: Speed, images: int, epochs: int, held: float, passes: int, telling_ms: float
) -> list[Part]:
    """What a trunk that stands still takes to describe the pictures, before the first step; then the steps.

    Steps of a head on kept features are short, and take as long in any precision.
    """
    batch_size = config.training.batch_size
    describing = images * speed.forward_ms * held * passes
    step = (speed.step_ms + batch_size * speed.image_ms) * ((speed.bfloat16 or 1.0) if _in_bfloat16(config) else 1.0)
    each = -(-images // batch_size) * (held * speed.head_step_ms + (1 - held) * step) * passes
    return [Part(0, describing), Part(images * epochs, each * epochs + telling_ms)]


def told_of_bfloat16(device: str, times: float) -> str:
    """How much longer, or less long, a step in bfloat16 takes on a device, in a sentence."""
    place = "processor" if device == "cpu" else "GPU"
    if times > SLOWER:
        return f"On this {place} a step in bfloat16 takes {times:.2g} times as long as in float32."
    if times < 1 / SLOWER:
        return f"On this {place} steps in bfloat16 are {1 / times:.2g} times as fast as in float32."
    return f"On this {place} a step in bfloat16 takes about as long as in float32."
