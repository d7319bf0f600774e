"""Runs told by hand: events with round numbers, for results, figures and pages."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from labcore.configs.run import RunConfig
from labcore.runs.claims import Claim
from labcore.runs.errors import Busy
from labcore.runs.events import (
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
)
from labcore.runs.store import Store
from tests.conftest import tiny

FACTS = (
    TaskFacts(
        name="digits:0-3",
        title="Digits: 0 to 3",
        classes=("0", "1", "2", "3"),
        train_images=40,
        validation_images=76,
        test_images=200,
    ),
    TaskFacts(
        name="fashion:0-2",
        title="Clothes: T-shirt to pullover",
        classes=("a", "b", "c"),
        train_images=36,
        validation_images=135,
        test_images=300,
    ),
)


METHOD = "from a processor's rated power (10 W)"


def opened(resumed: int | None = None, images: int = 0, time: float = 100.0, energy_wh: float = 0.0) -> Event:
    return RunStarted(
        config=tiny(),
        device="cpu",
        device_name="A processor",
        threads=2,
        tasks=FACTS,
        total_images=152,
        resumed_from_step=resumed,
        images_seen=images,
        step=resumed or 0,
        time=time,
        energy_wh=energy_wh,
        energy_method=METHOD,
    )


def stage(number: int, name: str, seen: int, step: int) -> list[Event]:
    return [
        StageStarted(stage=number, task=name, images=76, images_seen=seen, step=step, time=100 + step),
        PhaseStarted(stage=number, phase="train", epochs=2, steps=10, trained_weights=1000, cached_blocks=0, step=step),
    ]


def live(number: int, seen: int, step: int, *accuracy: float) -> Event:
    images = (50,) * len(accuracy)
    return Evaluated(
        stage=number, kind="live", images_seen=seen, accuracy=accuracy, images=images, step=step, time=100 + step
    )


def logged(number: int, seen: int, step: int, **loss: float) -> Event:
    return StepLogged(
        stage=number,
        phase="train",
        epoch=1,
        images_seen=seen,
        loss={k.replace("_", " "): v for k, v in loss.items()},
        learning_rate=1e-3,
        train_seconds=step / 10,
        evaluation_seconds=0.5,
        energy_wh=step / 100,
        step=step,
        time=100 + step,
    )


def measured(number: int, name: str, seen: int, step: int, *accuracy: float) -> list[Event]:
    images = (200, 300)[: len(accuracy)]
    return [
        Evaluated(stage=number, kind="validation", images_seen=seen, accuracy=accuracy, images=images, step=step),
        Evaluated(stage=number, kind="test", images_seen=seen, accuracy=accuracy, images=images, step=step),
        FootprintMeasured(stage=number, kept={"trunk": 1000, "heads": 10 * number}, working={"outputs": 5}, step=step),
        StageEnded(
            stage=number,
            task=name,
            train_seconds=1,
            evaluation_seconds=0.5,
            images_seen=76,
            steps=10,
            energy_wh=0.125,
            step=step,
            time=100 + step,
        ),
    ]


FIRST = [
    opened(),
    *stage(1, "digits:0-3", 0, 0),
    live(1, 0, 0, 0.25),
    logged(1, 40, 5, new_task=1.5),
    live(1, 40, 5, 0.75),
    logged(1, 76, 10, new_task=0.5),
    live(1, 76, 10, 0.9),
    *measured(1, "digits:0-3", 76, 10, 0.9),
]
SECOND = [
    *stage(2, "fashion:0-2", 76, 10),
    live(2, 76, 10, 0.9, 0.3),
    logged(2, 152, 20, new_task=0.25),
    live(2, 152, 20, 0.4, 0.8),
    *measured(2, "fashion:0-2", 152, 20, 0.4, 0.8),
]
END = RunEnded(state="complete", step=20, test_ms_per_image=0.5, peak_memory_bytes=2_000_000, energy_wh=0.25)
COMPLETE = [*FIRST, *SECOND, END]


def written(store: Store, events: list[Event], config: RunConfig | None = None) -> Claim:
    """A claimed run with these events."""
    claim = store.claim_run(store.submit(config or tiny()).run)
    for event in events:
        claim.append(event)
    return claim


def long_run(store: Store, events: int) -> str:
    """A complete run of about so many events; its ID."""
    claim = long_claim(store, events)
    claim.append(RunEnded(state="complete", step=events + 10, test_ms_per_image=0.5, peak_memory_bytes=2_000_000))
    claim.finish("complete")
    claim.release()
    return claim.run


def long_claim(store: Store, events: int) -> Claim:
    """A run of about so many events that still is at work."""
    claim = store.claim_run(store.submit(tiny(), use_cache=False).run)
    for event in FIRST[:4]:
        claim.append(event)
    for step in range(1, events - 20):
        seen, share = round(76 * step / events), step / events
        claim.append(
            live(1, seen, step, 0.25 + share / 2) if step % 10 == 0 else logged(1, seen, step, new_task=2 - share)
        )
    for event in [*measured(1, "digits:0-3", 76, events, 0.9), *stage(2, "fashion:0-2", 76, events)]:
        claim.append(event)
    for event in [live(2, 152, events + 10, 0.4, 0.8), *measured(2, "fashion:0-2", 152, events + 10, 0.4, 0.8)]:
        claim.append(event)
    return claim


def told(
    store: Store,
    config: RunConfig,
    rows: list[list[float]],
    *,
    seconds: float = 1.0,
    kept: int = 1000,
    milliseconds: float = 0.5,
    old_images: int = 0,
    cores: int | None = None,
) -> str:
    """A complete run of this configuration with this accuracy matrix, on test and validation images; its ID."""
    claim = store.claim_run(store.submit(config).run)
    facts = tuple(
        TaskFacts(
            name=task.name,
            title=task.name,
            classes=("a", "b"),
            train_images=38,
            validation_images=50,
            test_images=100,
        )
        for task in config.tasks
    )
    claim.append(
        RunStarted(
            config=config,
            device="cpu",
            device_name="A processor",
            threads=1,
            cores=cores,
            tasks=facts,
            total_images=76 * len(rows),
        )
    )
    for number, row in enumerate(rows, 1):
        first = 10 * (number - 1)
        name = config.tasks[number - 1].name
        images = (100,) * number
        seen = 76 * (number - 1)
        claim.append(
            StageStarted(
                stage=number, task=name, images=76, images_seen=seen, old_images=old_images * (number > 1), step=first
            )
        )
        for share in (0.0, 0.5, 1.0):
            accuracy = (*row[:-1], row[-1] * share)
            claim.append(live(number, seen + round(76 * share), first + round(10 * share), *accuracy))
        for kind in ("validation", "test"):
            claim.append(
                Evaluated(
                    stage=number, kind=kind, images_seen=seen + 76, accuracy=tuple(row), images=images, step=first
                )
            )
        claim.append(FootprintMeasured(stage=number, kept={"trunk": kept}, working={}, step=first + 10))
        claim.append(
            StageEnded(
                stage=number, task=name, train_seconds=seconds, evaluation_seconds=0.1, images_seen=76, steps=10,
                step=first + 10,
            )
        )  # fmt: skip
    claim.append(RunEnded(state="complete", step=10 * len(rows), test_ms_per_image=milliseconds))
    claim.finish("complete")
    return claim.run


def map_by_map(store: Store, finished: str, claim: Claim) -> Iterator[MapSaved]:
    """Tell a finished run again as one at work: each step up to its next map, which is told then."""
    shutil.copytree(store.folder(finished) / "maps", claim.folder / "maps")
    for event in store.tail(finished)[0]:
        if not isinstance(event, RunEnded):
            claim.append(event)
        if isinstance(event, MapSaved):
            yield event


def worker_told(store: Store, device: str, run: str | None, *, slot: int = 0, **told: Any) -> None:
    """A slot's worker that lives and has told what it does: this process, which holds its lock to its own end."""
    with contextlib.suppress(Busy):
        store.lock_device(device, slot)
    store.tell_worker(device, run, slot=slot, **told)
