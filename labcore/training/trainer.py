"""`train(config, …)` yields the events of a run: one loop to read, whatever the method.

A run is a row of stages, a stage a row of phases, a phase a row of steps. Every step of the loop asks whether to stop,
and at any step the whole state can be written down and taken up again, bit for bit.
"""

import functools
import math
import operator
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from labcore import ENGINE_VERSION
from labcore.configs.run import RunConfig
from labcore.methods.base import Mask, Phase
from labcore.methods.load import learner
from labcore.networks import backbones
from labcore.networks.batches import (
    LARGEST_FEATURE_CACHE,
    Lesson,
    LoadedTask,
    Pictures,
    Stopped,
    batch_slice,
    epoch_order,
    load_task,
    run_first_blocks,
    steps_in_epoch,
)
from labcore.networks.network import Network
from labcore.runs import checkpoints
from labcore.runs.checkpoints import Position
from labcore.runs.energy import Meter
from labcore.runs.events import (
    Downloading,
    Evaluated,
    Event,
    FootprintMeasured,
    MapSaved,
    PhaseStarted,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    StepLogged,
    TaskFacts,
    Warned,
)
from labcore.runs.files import atomic_path, home
from labcore.runs.results import difference
from labcore.runs.stage_cache import Addition, StageCache, StoredStage
from labcore.runs.stage_keys import StageKey, stage_keys
from labcore.tasks import catalogue
from labcore.tasks.downloads import DownloadError, File, fetch
from labcore.training.hardware import PeakMemory, device_name, pick_device, prepare
from labcore.training.map_maker import MapMaker
from labcore.training.measuring import Measurer, Probe
from labcore.training.optimizers import new_optimizers, rate_at
from labcore.training.spending import Clock, EnergyMeasured

# Live accuracy is measured on this many validation images of each task, at this many even intervals of a stage.
LIVE_IMAGES = 50
TIMED_IMAGES = 100
LIVE_INTERVALS = 8
# Loss terms are told this often: about a hundred times a phase, and at least every ten steps.
LOGS_A_PHASE = 100
LONGEST_LOG_INTERVAL = 10
# Between two stage ends the meter is read at most this often: a reading takes some milliseconds.
METER_SECONDS = 1.0


class NotFinite(Exception):
    """The loss is no longer a number; the message says where and what to try."""


def train(
    config: RunConfig,
    *,
    device: str = "cpu",
    cache: Path | None = None,
    downloads: Path | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    stages: Callable[[int], Path] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    maps: Path | None = None,
    live_maps: bool = True,
    stage_cache: StageCache | None = None,
    fresh: bool = False,
    meter: Meter | None = None,
) -> Iterator[Event]:
    """Train a configuration and tell what happens.

    Decoded pictures are kept in `cache`. Weights and data sets that do not come with the lab are looked for below
    `downloads` (None: the store's folder), and fetched into it. Where `checkpoint` is a file, the run goes on from it;
    it is written at stage ends, every `checkpoint_seconds` and on stopping. `stages(k)` is the folder that takes the
    arrays of stage k before its `StageEnded`. `should_stop` is asked before every step, every chunk of measuring and
    every piece of a download. `meter` tells the energy spent since this attempt began; without one it is not told.

    Maps of the network's inside are saved below the folder `maps`, at stage ends and, with `live_maps`, at live points
    between; no result depends on them, and their time is evaluation's.

    With a `stage_cache` (and `stages`) every stage is kept there, and a run without a checkpoint starts from the
    longest prefix of its stages that is, unless it is to be `fresh`.

    The last event is a `RunEnded`: complete, stopped, or failed where the loss is not finite or a file that must be
    downloaded cannot be. Raises ConfigError, TaskError, and OSError where something cannot be written.
    """
    torch_device = torch.device(pick_device(device))
    threads = prepare()
    saved, unread = checkpoints.find(checkpoint, config.key()) if checkpoint else (None, None)
    downloads = downloads or home()
    step = saved[0].step if saved else 0
    try:
        yield from _fetch_files(config, downloads, step, should_stop)
        run = _Run(config, torch_device, cache, stages, should_stop, downloads, meter)
        run.record_maps(maps, live_maps)
    except Stopped:
        yield RunEnded(state="stopped", step=step)
        return
    except DownloadError as error:
        yield RunEnded(state="failed", step=step, error=str(error))
        return
    try:
        if stage_cache and stages:
            run.use_stages(stage_cache, threads, read=not fresh)
        yield from run.events(threads, saved, checkpoint, checkpoint_seconds, unread)
    except Stopped:
        yield RunEnded(state="stopped", step=run.step, energy_wh=run.energy.read())
    except NotFinite as error:
        energy = run.energy.read()
        yield RunEnded(state="failed", step=run.step, error=str(error), diverged=True, energy_wh=energy)


def _fetch_files(config: RunConfig, root: Path, step: int, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """See to it that weights and data sets are here. Raises DownloadError, Stopped."""
    weights = backbones.weights_file(config.backbone.name, config.backbone.start)
    needed: list[File] = [weights] if weights else []
    needed += [file for name in config.task_names for file in catalogue.files(name)]
    for file in dict.fromkeys(needed):
        told = -math.inf
        with closing(fetch(file, root)) as pieces:
            for done, total in pieces:
                if should_stop():
                    raise Stopped
                if time.monotonic() - told >= 1 or done == total:
                    told = time.monotonic()
                    yield Downloading(file=file.name, done=done, total=total, step=step)


class _Run:
    """The state of a run in training. `step` and `images_seen` count over the whole run."""

    def __init__(
        self,
        config: RunConfig,
        device: torch.device,
        cache: Path | None,
        stages: Callable[[int], Path] | None,
        should_stop: Callable[[], bool],
        downloads: Path | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.config, self.device, self.stages, self.should_stop = config, device, stages, should_stop
        self.memory = PeakMemory(device)
        self.reused_peak_memory = 0
        size = config.backbone.image_size
        self.all_tasks = [load_task(i, task, size, cache, device, downloads) for i, task in enumerate(config.tasks, 1)]
        self.tasks: list[LoadedTask] = []  # those seen so far; the method shares the list
        weights = backbones.weights_file(config.backbone.name, config.backbone.start)
        path = weights.path(downloads) if weights and downloads else None
        self.network = Network(config.backbone, config.seed, device, path)
        self.method = learner(config.method.name)(self.network, config, self.tasks)
        self.method.should_stop = should_stop
        self.measurer = Measurer(self.network, self.method, should_stop)
        self.clock = Clock()
        self.energy = EnergyMeasured(meter)
        self.step = self.images_seen = self.stage_step = self.stage_images = 0
        self.pending: list[dict[str, float]] = []
        self.feature_bytes: dict[int, int] = {}
        self.optimizers: list[torch.optim.Optimizer] = []
        self.learning: dict[str, Tensor] = {}  # what they train, by name
        self.maps: MapMaker | None = None
        self.live_maps = False
        self.told: list[Event] = []  # of this stage so far
        self.stage_cache: StageCache | None = None
        self.stage_keys: list[StageKey] = []
        self.reads_stages = False

    def record_maps(self, folder: Path | None, live: bool) -> None:
        """Save maps below this folder; None: no maps."""
        if folder is not None:
            parts = (self.network, self.method, self.config, self.tasks)
            self.maps, self.live_maps = MapMaker(*parts, folder, self.stages, self.should_stop), live

    # ---- the run ----------------------------------------------------------------------------------------------------

    def events(
        self,
        threads: int,
        saved: checkpoints.Checkpoint | None,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        unread: str | None = None,
    ) -> Iterator[Event]:
        """All stages, from the beginning or from where the checkpoint stands; `unread` says why not from a newer."""
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        self.last_checkpoint = time.monotonic()
        position = saved[0] if saved else Position(key=self.config.key())
        if saved:
            self._restore(*saved)
        yield RunStarted(
            config=self.config,
            device=str(self.device),
            device_name=device_name(self.device),
            threads=threads,
            tasks=tuple(_facts(task) for task in self.all_tasks),
            total_images=sum(self._stage_images(stage) for stage in range(1, len(self.all_tasks) + 1)),
            resumed_from_step=self.step if saved else None,
            step=self.step,
            images_seen=self.images_seen,
            train_seconds=self.clock.train,
            evaluation_seconds=self.clock.evaluation,
            energy_wh=self.energy.run,
            energy_method=self.energy.meter.method if self.energy.meter else None,
            versions={"engine": ENGINE_VERSION, "torch": torch.__version__},
        )
        if unread:
            yield Warned(stage=position.stage, text=unread, step=self.step)
        first = position.stage
        self.energy.go_on(position.stage_energy_wh)
        if self.reads_stages and not saved:
            yield from self._stored_stages()
            first = len(self.tasks) + 1
        for stage in range(first, len(self.all_tasks) + 1):
            goes_on = saved is not None and stage == first
            for event in self._stage(stage, position if goes_on else None, saved[1] if saved and goes_on else {}):
                self._note(event)
                yield event
        yield RunEnded(
            state="complete",
            step=self.step,
            test_ms_per_image=self.measurer.ms_per_image(self.tasks[0], TIMED_IMAGES),
            peak_memory_bytes=self._peak_memory_bytes(),
            energy_wh=self.energy.read(),
        )

    def _stage(self, stage: int, position: Position | None, tensors: dict[str, Tensor]) -> Iterator[Event]:
        """Learn task `stage`. A `position` within the stage goes on from there; `tensors` are its checkpoint's."""
        begun = position is not None and (position.phase, position.phase_step) != (0, 0)
        phases = self.method.phases(stage)
        if not begun:
            self.clock.stage_train = self.clock.stage_evaluation = 0.0
            self.energy.go_on(0.0)
            self.stage_step = self.stage_images = 0
            task = self.all_tasks[stage - 1]
            self.tasks.append(task)
            self.clock.start()
            self.network.add_task(stage, len(task.info.classes))
            self.method.start_stage(stage)
            self.clock.trained()
            if self.maps:
                self.maps.begin(stage)
                self.clock.evaluated()
            yield StageStarted(
                stage=stage,
                task=task.info.name,
                images=self._stage_images(stage),
                images_seen=self.images_seen,
                old_images=self._old_images(stage),
                step=self.step,
            )
            yield from self._warnings(stage)
        for number, phase in enumerate(phases):
            if position is not None and begun and number < position.phase:
                continue
            first_step = position.phase_step if position is not None and begun and number == position.phase else 0
            yield from self._phase(stage, number, phase, first_step, tensors if first_step else {})
        yield from self._warnings(stage)
        working = self.method.working_footprint()
        if self.maps:
            self.maps.before_end(stage)
        added = self._end_stage(stage)
        if self.maps:
            yield self._map_saved("stage", stage, self.maps.end)
        for text in added.warnings:
            yield Warned(stage=stage, text=text, step=self.step)
        yield from self._measure(stage)
        yield FootprintMeasured(stage=stage, kept=self.method.footprint(), working=working, step=self.step)
        self.energy.read()
        ended = StageEnded(
            stage=stage,
            task=self.tasks[stage - 1].info.name,
            step=self.step,
            train_seconds=self.clock.stage_train,
            evaluation_seconds=self.clock.stage_evaluation,
            images_seen=self.stage_images,
            steps=self.stage_step,
            energy_wh=self.energy.stage,
        )
        if self.stages:
            self._save_stage(self.stages(stage))
            self._keep_stage(ended, added)
        yield ended
        self._save_checkpoint(stage + 1, 0, 0)

    def _end_stage(self, stage: int) -> Addition:
        """Let the method add what it adds, from a network that stands still."""
        before, energy = self.clock.train, self.energy.read()
        self.clock.start()
        self.network.let_statistics_move([])
        self.method.end_stage(stage)
        self.clock.trained()
        warnings, self.method.warnings = tuple(self.method.warnings), []
        spent = difference(self.energy.read(), energy)
        return Addition(seconds=self.clock.train - before, energy_wh=spent, warnings=warnings)

    def _phase(
        self, stage: int, number: int, phase: Phase, first_step: int, tensors: dict[str, Tensor]
    ) -> Iterator[Event]:
        """The steps of a phase, with an optimizer of its own."""
        training, network, method = self.config.training, self.network, self.method
        masks = method.trainable(stage, phase)
        parameters = self._let_learn(masks)
        statistics = method.moving_statistics(stage, phase)
        self.clock.start()
        images = sum(len(self.tasks[position - 1].train) for position in method.data(stage, phase))
        fixed = self._cached_blocks(masks, statistics, images)
        self.clock.trained()
        probes = [self.measurer.probe(task, LIVE_IMAGES, fixed) for task in self.tasks]
        self.clock.evaluated()
        told_rate = method.learning_rate(next((n for n in parameters if not n.startswith("heads/")), "heads/"))
        kept = {name: parameters[name].detach().clone() for name, mask in masks.items() if mask is not None}

        epoch_steps = steps_in_epoch(images, training.batch_size)
        steps = epoch_steps * phase.epochs
        interval = max(1, min(LONGEST_LOG_INTERVAL, steps // LOGS_A_PHASE))
        # Before any step, and at even intervals; a later phase begins where the one before was measured.
        measure_at = {round(i * steps / LIVE_INTERVALS) for i in range(LIVE_INTERVALS)}
        # Where the trunk stands still, what matters in it moves slowly: every fourth point is enough. Where it moves in
        # more phases than one, they share the points: such a stage is drawn no more often, and costs no more.
        moving = sum(not other.head_only for other in method.phases(stage))
        map_at = set(sorted(measure_at)[:: moving if fixed < len(network.trunk.block_names) else 4])
        yield PhaseStarted(
            stage=stage,
            phase=phase.name,
            epochs=phase.epochs,
            steps=steps,
            trained_weights=sum(p.numel() if (m := masks[n]) is None else int(m.sum()) for n, p in parameters.items()),
            cached_blocks=fixed,
            step=self.step,
        )
        if first_step == 0:  # before any step, and before an optimizer: a process's first takes torch two seconds
            yield from self._look(stage, probes, draws=0 in map_at)
        optimizers = new_optimizers(training, parameters, method.own_tensors(), method.learning_rate)
        self.optimizers, self.learning = optimizers, parameters
        checkpoints.restore_optimizers(optimizers, parameters, tensors)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        rates = [group["lr"] for group in groups]
        precision = (
            torch.autocast(self.device.type, torch.bfloat16) if training.precision == "bfloat16" else nullcontext()
        )
        lesson: Lesson | None = None
        order: Tensor | None = None
        for step in range(first_step, steps):
            if self.should_stop():
                self._save_checkpoint(stage, number, step)
                raise Stopped
            if step in measure_at and step > 0:
                yield from self._look(stage, probes, draws=step in map_at)
            self.clock.start()
            if lesson is None:  # now that accuracy before training is told: a feature cache takes its time
                lesson = self._lesson(stage, phase, fixed)
            epoch, batch_number = divmod(step, epoch_steps)
            if order is None or batch_number == 0:
                order = epoch_order(self.config.seed, stage, phase.name, epoch, images).to(self.device)
            network.let_statistics_move(statistics)
            batch = lesson.batch(network, batch_slice(order, batch_number, training.batch_size))
            scale = rate_at(step, steps, training.warmup_fraction, training.schedule)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * scale
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            with precision:
                terms = method.loss(batch)
            functools.reduce(operator.add, terms.values()).backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            with torch.no_grad():
                # Momentum and weight decay move weights whose gradient is zero: put frozen ones back, bit for bit.
                for name, frozen in kept.items():
                    parameters[name].copy_(torch.where(masks[name], parameters[name], frozen))  # type: ignore[arg-type]
            self.step += 1
            self.stage_step += 1
            self.images_seen += len(batch.labels)
            self.stage_images += len(batch.labels)
            self.pending.append({name: float(term.detach()) for name, term in terms.items()})
            self.clock.trained()
            self._check_finite(phase)
            if (step + 1) % interval == 0 or step + 1 == steps:
                yield self._step_logged(stage, phase, epoch, told_rate * scale)
            if time.monotonic() - self.last_checkpoint >= self.checkpoint_seconds and step + 1 < steps:
                self._save_checkpoint(stage, number, step + 1)
        self.optimizers = []
        self.clock.start()
        method.end_phase(stage, phase)
        self.clock.trained()

    # ---- stages that are stored already -----------------------------------------------------------------------------

    def use_stages(self, cache: StageCache, threads: int, *, read: bool) -> None:
        """Keep every stage in the cache, and with `read` take from there what is."""
        machine: dict[str, str | int] = {
            "engine": ENGINE_VERSION,
            "torch": str(torch.__version__),
            "device": self.device.type,
            "card": device_name(self.device) if self.device.type == "cuda" else "",
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": threads,
        }
        stages = range(1, len(self.all_tasks) + 1)
        trained = [self.method.stage_config(stage) for stage in stages]
        added = [self.method.addition_config(stage) for stage in stages]
        self.stage_cache, self.reads_stages = cache, read
        self.stage_keys = stage_keys(self.config, machine, trained, added)

    def _stored_stages(self) -> Iterator[Event]:
        """Take over the longest prefix of stages that is stored, and tell again what was said in each."""
        assert self.stage_cache and self.stages
        for task, key in zip(self.all_tasks, self.stage_keys, strict=True):
            if self.should_stop():
                raise Stopped
            folder = self.stages(task.position)
            comes_with_training = self.method.addition_config(task.position) is None
            stored = self.stage_cache.take(key, folder, needs_addition=comes_with_training)
            if stored is None:
                return
            self.tasks.append(task)
            self.network.add_task(task.position, len(task.info.classes))
            added = self._take_stage(task.position, stored, folder)
            if stored.addition is None:
                self.stage_cache.put_addition(key, folder, added)
            yield from self._told_again(stored, added)
            if self.maps:  # the cache holds none: a stage's end is looked at again, what lay before it is gone
                yield self._map_saved("stage", task.position, self.maps.end).model_copy(update={"reused": True})

    def _take_stage(self, stage: int, stored: StoredStage, folder: Path) -> Addition:
        """Put network and method where the stage left them; what its end added is computed where it is not stored."""
        tensors = load_file(folder / "network.safetensors")
        self.network.load_tensors(tensors)
        self.step, self.images_seen = stored.ended.step, stored.measured[-1].images_seen
        if stored.addition is None:
            self._let_learn(self.method.trainable(stage, self.method.phases(stage)[-1]))
            added = self._end_stage(stage)
            self._save_method(folder)
            return added
        own = {name: value for name, value in tensors.items() if name.startswith("copies/")}
        if stored.addition.file:
            own |= load_file(folder / "method.safetensors")
        self.method.load_state_dict(own)
        self.clock.train += stored.addition.seconds
        return stored.addition

    def _told_again(self, stored: StoredStage, added: Addition) -> Iterator[Event]:
        """A stored stage's events as if it were trained now, but marked; seconds go on from what the run has spent."""
        begun = self.clock.train - added.seconds, self.clock.evaluation
        warned = [Warned(stage=stored.ended.stage, text=text, step=self.step) for text in added.warnings]
        footprint = stored.footprint.model_copy(update={"kept": self.method.footprint()})
        seconds, energy = stored.ended.train_seconds + added.seconds, stored.ended.energy_wh
        energy = None if energy is None or added.energy_wh is None else energy + added.energy_wh
        ended = stored.ended.model_copy(update={"train_seconds": seconds, "energy_wh": energy})
        for event in [*stored.told, *warned, *stored.measured, footprint, ended]:
            now: dict[str, object] = {"time": time.time(), "reused": True}
            if isinstance(event, StepLogged):
                now["energy_wh"] = self.energy.run  # the run's own: what the stage cost is not spent again
            yield _moved(event, *begun).model_copy(update=now)
        self.clock.train += stored.ended.train_seconds
        self.clock.evaluation += stored.ended.evaluation_seconds
        self.reused_peak_memory = max(self.reused_peak_memory, stored.peak_memory)

    def _note(self, event: Event) -> None:
        """Remember what this stage has said; a phase that goes on from a checkpoint opens once."""
        if isinstance(event, StageStarted):
            self.told = []
        if isinstance(event, MapSaved):
            return  # maps are the run's own
        if not (isinstance(event, PhaseStarted) and any(_same_phase(event, known) for known in self.told)):
            self.told.append(event)

    def _keep_stage(self, ended: StageEnded, added: Addition) -> None:
        """Put a stage whose arrays are saved into the cache; what its end said and took is the addition's."""
        if self.stage_cache is None or self.stages is None or not isinstance(self.told[0], StageStarted):
            return
        *told, live, validation, test, footprint = self.told
        seconds, energy = ended.train_seconds - added.seconds, difference(ended.energy_wh, added.energy_wh)
        ended = ended.model_copy(update={"train_seconds": seconds, "energy_wh": energy})
        begun = self.clock.train - self.clock.stage_train, self.clock.evaluation - self.clock.stage_evaluation
        events = [
            _moved(event, -begun[0], -begun[1])
            for event in [*told[: len(told) - len(added.warnings)], live, validation, test, footprint, ended]
        ]
        key, folder = self.stage_keys[ended.stage - 1], self.stages(ended.stage)
        self.stage_cache.put(key, folder, events, added, peak_memory=self._peak_memory_bytes())

    # ---- what a phase trains, and on what ---------------------------------------------------------------------------

    def _let_learn(self, masks: dict[str, Mask]) -> dict[str, Tensor]:
        """Set requires_grad by the method's word alone, and return what learns."""
        everything = self.network.tensors() | self.method.own_tensors()
        for tensor in everything.values():
            if tensor.is_floating_point():
                tensor.requires_grad_(False)
        return {name: everything[name].requires_grad_(True) for name in masks}

    def _fixed_blocks(self, masks: dict[str, Mask], statistics: Sequence[int]) -> int:
        """How many of the first blocks no step of the phase can change."""
        touched = {block for name in masks if (block := self.network.block_of(name)) is not None} | set(statistics)
        return min(touched, default=len(self.network.trunk.block_names))

    def _cached_blocks(self, masks: dict[str, Mask], statistics: Sequence[int], images: int) -> int:
        """How many first blocks are run once over so many images: those that stand still, if there is room for it."""
        fixed = self._fixed_blocks(masks, statistics)
        self.network.let_statistics_move([])
        return 0 if fixed and self._feature_bytes(fixed) * images > LARGEST_FEATURE_CACHE else fixed

    def _lesson(self, stage: int, phase: Phase, fixed: int) -> Lesson:
        """What the phase trains on; the `fixed` first blocks are run once over it."""
        numbers = self.method.data(stage, phase)
        tasks = [self.tasks[number - 1] for number in numbers]
        labels = torch.cat([task.train.labels for task in tasks])
        whose = torch.cat([torch.full_like(task.train.labels, task.position) for task in tasks])
        self.network.let_statistics_move([])
        features = None
        if fixed:
            parts = []
            for task in tasks:
                overlay = self.method.fixed_overlay(task.position)
                parts.append(run_first_blocks(self.network, overlay, task.train, fixed, self.should_stop))
            features = torch.cat(parts)
        pictures = [task.train.images for task in tasks]
        return Lesson(stage, pictures, features, labels, whose, fixed, phase.head_only)

    def _feature_bytes(self, blocks: int) -> int:
        """Bytes of what these first blocks make of one image; a picture of the run is run through them once."""
        if blocks not in self.feature_bytes:
            one = run_first_blocks(self.network, {}, self.tasks[0].train.first(1), blocks, self.should_stop)
            self.feature_bytes[blocks] = one.numel() * one.element_size()
        return self.feature_bytes[blocks]

    def _stage_images(self, stage: int) -> int:
        """Training images of a stage, counted with repetition."""
        return sum(
            phase.epochs * sum(len(self.all_tasks[number - 1].train) for number in self.method.data(stage, phase))
            for phase in self.method.phases(stage)
        )

    def _old_images(self, stage: int) -> int:
        """Different images of earlier tasks that a stage reads."""
        read = {number for phase in self.method.phases(stage) for number in self.method.data(stage, phase)}
        return sum(len(self.all_tasks[number - 1].train) for number in read if number < stage)

    # ---- measuring --------------------------------------------------------------------------------------------------

    def _look(self, stage: int, probes: Sequence[Probe], *, draws: bool) -> Iterator[Event]:
        """Accuracy now, on each task's probe, and where a map is due, how the network's inside looks."""
        self.clock.start()
        evaluated = self._evaluated("live", stage, [self.measurer.right_now(probe) for probe in probes])
        self.clock.evaluated()
        yield evaluated
        if self.maps and self.live_maps and draws:
            yield self._map_saved("live", stage, self.maps.live)

    def _map_saved(self, kind: Literal["live", "stage"], stage: int, make: Callable[[int, int], str]) -> MapSaved:
        """Make and save maps; training finds everything as it was."""
        self.clock.start()
        path = make(stage, self.step)
        self.clock.evaluated()
        return MapSaved(stage=stage, kind=kind, path=path, step=self.step)

    def _measure(self, stage: int) -> Iterator[Event]:
        """All tasks seen, on all their validation and test images; the live curve ends with the former's first."""
        self.clock.start()
        right = [self._right(task, task.validation) for task in self.tasks]
        live = self._evaluated("live", stage, [answers[:LIVE_IMAGES] for answers in right])
        validation = self._evaluated("validation", stage, right)
        self.clock.evaluated()
        yield live
        yield validation
        self.clock.start()
        test = self._evaluated("test", stage, [self._right(task, task.test) for task in self.tasks])
        self.clock.evaluated()
        yield test

    def _right(self, task: LoadedTask, pictures: Pictures) -> Tensor:
        right = self.measurer.right(task, pictures)
        self.memory.sample()
        return right

    def _peak_memory_bytes(self) -> int:
        """What the run needed at its peak, stages that it took over included."""
        return max(self.memory.peak, self.reused_peak_memory)

    # ---- telling ----------------------------------------------------------------------------------------------------

    def _warnings(self, stage: int) -> Iterator[Event]:
        """What the method has to say, once."""
        while self.method.warnings:
            yield Warned(stage=stage, text=self.method.warnings.pop(0), step=self.step)

    def _evaluated(self, kind: Literal["live", "validation", "test"], stage: int, right: Sequence[Tensor]) -> Evaluated:
        """`right` tells of each task seen which pictures were answered rightly."""
        return Evaluated(
            stage=stage,
            kind=kind,
            images_seen=self.images_seen,
            accuracy=tuple(float(answers.double().mean()) for answers in right),
            images=tuple(len(answers) for answers in right),
            step=self.step,
        )

    def _step_logged(self, stage: int, phase: Phase, epoch: int, rate: float) -> StepLogged:
        self.memory.sample()
        names = self.pending[0]
        loss = {name: statistics.fmean(terms[name] for terms in self.pending) for name in names}
        self.pending.clear()
        return StepLogged(
            stage=stage,
            phase=phase.name,
            epoch=epoch + 1,
            images_seen=self.images_seen,
            loss=loss,
            learning_rate=rate,
            train_seconds=self.clock.train,
            evaluation_seconds=self.clock.evaluation,
            energy_wh=self.energy.read(METER_SECONDS),
            step=self.step,
        )

    def _check_finite(self, phase: Phase) -> None:
        """Raise NotFinite, naming step and term."""
        for name, value in self.pending[-1].items():
            if not math.isfinite(value):
                training = self.config.training
                raise NotFinite(
                    f"At step {self.step} (phase {phase.name}) the loss term '{name}' became {value}. "
                    f"Try a smaller training.learning_rate (it is {training.learning_rate:g}) or "
                    f"training.head_learning_rate (it is {training.head_learning_rate:g}), or a longer warm-up."
                )

    # ---- writing down -----------------------------------------------------------------------------------------------

    def _save_stage(self, folder: Path) -> None:
        """`network.safetensors`, and `method.safetensors` where the method keeps something of its own."""
        self._save_method(folder)
        copies = {name: value for name, value in self.method.state_dict().items() if name.startswith("copies/")}
        with atomic_path(folder / "network.safetensors") as temporary:
            checkpoints.write_tensors(temporary, self.network.tensors() | copies)

    def _save_method(self, folder: Path) -> None:
        others = {name: value for name, value in self.method.state_dict().items() if not name.startswith("copies/")}
        if others:
            with atomic_path(folder / "method.safetensors") as temporary:
                checkpoints.write_tensors(temporary, others)

    def _save_checkpoint(self, stage: int, phase: int, phase_step: int) -> None:
        """Everything that the rest of the run depends on."""
        self.last_checkpoint = time.monotonic()
        if self.checkpoint is None:
            return
        self.energy.read()
        position = Position(
            key=self.config.key(),
            stage=stage,
            phase=phase,
            phase_step=phase_step,
            step=self.step,
            images_seen=self.images_seen,
            train_seconds=self.clock.train,
            evaluation_seconds=self.clock.evaluation,
            stage_step=self.stage_step,
            stage_images=self.stage_images,
            stage_train_seconds=self.clock.stage_train,
            stage_evaluation_seconds=self.clock.stage_evaluation,
            energy_wh=self.energy.run,
            stage_energy_wh=self.energy.stage,
            peak_memory=self.memory.peak,
            reused_peak_memory=self.reused_peak_memory,
            pending=tuple(self.pending),
            told=tuple(self.told) if (phase, phase_step) != (0, 0) else (),
        )
        tensors = dict(self.network.tensors())
        tensors |= {f"method/{name}": value for name, value in self.method.checkpoint_tensors().items()}
        tensors |= checkpoints.optimizer_tensors(self.optimizers, self.learning)
        checkpoints.save(self.checkpoint, position, tensors)

    def _restore(self, position: Position, tensors: dict[str, Tensor]) -> None:
        """Take up a checkpoint: the tasks seen, their heads, every tensor, what was spent."""
        begun = (position.phase, position.phase_step) != (0, 0)
        for task in self.all_tasks[: position.stage if begun else position.stage - 1]:
            self.tasks.append(task)
            self.network.add_task(task.position, len(task.info.classes))
        self.network.load_tensors(tensors)
        prefix = "method/"
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self.method.load_checkpoint_tensors(own)
        self.step, self.images_seen = position.step, position.images_seen
        self.stage_step, self.stage_images = position.stage_step, position.stage_images
        self.clock = Clock(
            position.train_seconds,
            position.evaluation_seconds,
            position.stage_train_seconds,
            position.stage_evaluation_seconds,
        )
        self.memory.known, self.reused_peak_memory = position.peak_memory, position.reused_peak_memory
        self.pending, self.told = list(position.pending), list(position.told)
        if self.energy.meter is not None:
            self.energy.run = position.energy_wh


def _moved(event: Event, train: float, evaluation: float) -> Event:
    """The event with what the run has spent counted from elsewhere."""
    if not isinstance(event, StepLogged):
        return event
    seconds = event.train_seconds + train, event.evaluation_seconds + evaluation
    return event.model_copy(update={"train_seconds": seconds[0], "evaluation_seconds": seconds[1]})


def _same_phase(event: PhaseStarted, other: Event) -> bool:
    return isinstance(other, PhaseStarted) and other.phase == event.phase


def _facts(task: LoadedTask) -> TaskFacts:
    return TaskFacts(
        name=task.info.name,
        title=task.info.title,
        classes=task.info.classes,
        train_images=len(task.train),
        validation_images=len(task.validation),
        test_images=len(task.test),
    )
