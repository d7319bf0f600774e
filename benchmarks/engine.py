"""The engine against a clean hand-written loop that does the same steps and the same measuring, in one run.

    python -m benchmarks.engine [--device cuda:0] [--precision bfloat16]

Prints, for each network, the seconds of both (the medians of several rounds in turn) and their ratio.
"""

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.networks import backbones
from labcore.networks.batches import CHUNK
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.runs.events import RunEnded
from labcore.tasks import pictures
from labcore.training import hardware, lessons, loop, phase_plan

CHUNKS_OF_LIVE = 50
CACHE = Path(tempfile.gettempdir()) / "reuse-lab-benchmark"  # pictures are kept, as drawing them is not measured


@dataclass(frozen=True)
class Case:
    name: str
    backbone: str
    size: int
    batch: int
    epochs: int
    task: str
    rounds: int
    aim: float


CASES = [
    Case("EfficientNet-Lite0, 64 px, batch 32", "efficientnet_lite0", 64, 32, 1, "fans", 11, 1.03),
    Case("Small CNN, 28 px, batch 64", "small_cnn", 28, 64, 8, "fashion", 5, 1.10),
    Case("Perceptron, 28 px, batch 64", "mlp", 28, 64, 30, "fashion", 9, 1.15),
]


def config(case: Case, precision: str) -> RunConfig:
    return parse(
        {
            "backbone": {"name": case.backbone, "start": "kaiming", "image_size": case.size, "norm": "shared"},
            "tasks": [{"name": case.task}],
            "training": {"epochs": case.epochs, "batch_size": case.batch, "precision": precision},
            "method": {"name": "fine_tuning"},
        }
    )


def engine(case: Case, device: str, precision: str) -> float:
    """Seconds from the first to the last event, without the timing of single answers that only the engine does."""
    begun = finished = 0.0
    for event in loop.train(config(case, precision), device=device, cache=CACHE):
        if event.event == "stage_started":
            begun = time.perf_counter()
        if event.event == "stage_ended":
            finished = time.perf_counter()
        if isinstance(event, RunEnded):
            assert event.state == "complete"
    return finished - begun


def by_hand(case: Case, device: str, precision: str) -> float:
    """The same work as one would write it for this case alone."""
    hardware.prepare()
    here, autocast = torch.device(device), precision == "bfloat16"
    data = pictures.load(case.task, case.size, cache=CACHE)
    trunk = backbones.build(case.backbone, "kaiming", case.size, stream(0, "trunk"))
    model = nn.Sequential(trunk, nn.Linear(trunk.width, len(data.info.classes)))
    model.to(here, memory_format=torch.channels_last)  # type: ignore[call-overload]
    splits = (data.train, data.validation, data.test)
    pairs = [(torch.from_numpy(s.images).to(here), torch.from_numpy(s.labels).to(here)) for s in splits]
    (images, labels), *held_out = pairs
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 5e-4}, {"params": model[1].parameters(), "lr": 3e-3}], fused=True
    )
    per_epoch = math.ceil(len(labels) / case.batch)
    steps = per_epoch * case.epochs
    warmup = round(0.1 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (
            (s + 1) / warmup if s < warmup else 0.5 * (1 + math.cos(math.pi * (s - warmup) / max(1, steps - warmup)))
        ),
    )
    measure_at = {round(i * steps / phase_plan.LIVE_INTERVALS) for i in range(phase_plan.LIVE_INTERVALS)}
    begun = time.perf_counter()
    step = 0
    for epoch in range(case.epochs):
        order = torch.randperm(len(labels), generator=stream(0, epoch)).to(here)
        for index in order.split(case.batch):
            if step in measure_at:
                accuracy(model, trunk, held_out[0][0][:CHUNKS_OF_LIVE], held_out[0][1][:CHUNKS_OF_LIVE])
            model.train()
            optimizer.zero_grad()
            with torch.autocast(here.type, torch.bfloat16, enabled=autocast):
                loss = functional.cross_entropy(model(trunk.normalise(images[index])), labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()
            assert math.isfinite(loss.item())
            step += 1
    for images, truth in held_out:
        accuracy(model, trunk, images, truth)
    return time.perf_counter() - begun


@torch.no_grad()
def accuracy(model: nn.Module, trunk: Trunk, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    right = sum(
        int((model(trunk.normalise(images[i : i + CHUNK])).argmax(1) == labels[i : i + CHUNK]).sum())
        for i in range(0, len(labels), CHUNK)
    )
    return right / len(labels)


def cached_against_not(device: str, epochs: int = 5) -> tuple[float, float]:
    """The seconds that feature extraction trains, with and without the feature cache, measuring not counted."""
    run = parse(
        {
            "backbone": {"name": "efficientnet_lite0", "start": "pretrained", "image_size": 64, "norm": "frozen"},
            "tasks": [{"name": "fans"}],
            "training": {"epochs": epochs, "batch_size": 32},
            "method": {"name": "feature_extraction"},
        }
    )

    def seconds() -> float:
        return next(
            event.train_seconds for event in loop.train(run, device=device, cache=CACHE) if event.event == "stage_ended"
        )

    limit = lessons.LARGEST_FEATURE_CACHE
    rounds = []
    for _ in range(5):
        cached = seconds()
        lessons.LARGEST_FEATURE_CACHE = 0
        try:
            rounds.append((cached, seconds()))
        finally:
            lessons.LARGEST_FEATURE_CACHE = limit
    cached, plain = (statistics.median(column) for column in zip(*rounds, strict=True))
    return cached, plain


def main() -> None:
    """Print a table: by hand, by the engine, their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    where = parser.parse_args()
    print("| case | by hand (s) | engine (s) | ratio | aim |\n|---|---|---|---|---|")
    for case in CASES:
        both = (by_hand, engine)
        rounds = [[side(case, where.device, where.precision) for side in both] for _ in range(case.rounds)]
        hand, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {case.name} | {hand:.2f} | {ours:.2f} | {ours / hand:.3f} | ≤ {case.aim} |", flush=True)
    cached, plain = cached_against_not(where.device)
    name = "Feature extraction, 5 epochs: without the cache, with it"
    print(f"| {name} | {plain:.2f} | {cached:.2f} | {plain / cached:.1f} × faster | ≥ 4 × |")


if __name__ == "__main__":
    main()
