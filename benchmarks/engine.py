"""The engine against a clean hand-written loop that does the same steps and the same looking, in one run.

    python -m benchmarks.engine [--device cuda:0] [--precision bfloat16] [--threads 1] [--rounds 11]

Prints, for each network, the seconds that both take for training and for looking (the medians of several rounds in
turn), and the engine's share of the hand-written loop's. That loop is plain PyTorch: timm's EfficientNet-Lite0, and
`nn.Sequential`s of torch's own layers. The first line is the yardstick: one of its steps on this machine.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from labcore.configs.looking import live_looks
from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.networks import batches
from labcore.networks.streams import stream
from labcore.runs.events import RunEnded, StageEnded
from labcore.tasks import pictures
from labcore.training import hardware, loop
from labcore.training import lessons as lessons_of_a_phase

CACHE = Path(tempfile.gettempdir()) / "reuse-lab-benchmark"  # pictures are kept, as drawing them is not measured


@dataclass(frozen=True)
class Case:
    """What is trained; `training` and `looking` are the shares that the engine aims at."""

    name: str
    backbone: str
    start: str
    size: int
    batch: int
    epochs: int
    task: str
    training: float
    looking: float = 0.92


CASES = [
    Case("EfficientNet-Lite0, 64 px, batch 32", "efficientnet_lite0", "pretrained", 64, 32, 1, "fans", 0.62),
    Case("EfficientNet-Lite0, 64 px, batch 16", "efficientnet_lite0", "pretrained", 64, 16, 1, "fans", 0.70),
    Case("Small CNN, 28 px, batch 64", "small_cnn", "kaiming", 28, 64, 8, "fashion", 1.0),
    Case("Perceptron, 28 px, batch 64", "mlp", "kaiming", 28, 64, 30, "fashion", 1.05),
]


@dataclass(frozen=True)
class Took:
    """Seconds of training and of looking, and how many steps there were."""

    training: float
    looking: float
    steps: int


def config(case: Case, precision: str) -> RunConfig:
    return parse(
        {
            "backbone": {"name": case.backbone, "start": case.start, "image_size": case.size, "norm": "frozen"},
            "tasks": [{"name": case.task}],
            "training": {"epochs": case.epochs, "batch_size": case.batch, "precision": precision},
            "method": {"name": "fine_tuning"},
        }
    )


def engine(case: Case, device: str, precision: str) -> Took:
    """What a run of the engine takes, without the timing of single answers that only the engine does."""
    took: Took | None = None
    for event in loop.train(config(case, precision), device=device, cache=CACHE):
        if isinstance(event, StageEnded):
            took = Took(event.train_seconds, event.evaluation_seconds, event.steps)
        if isinstance(event, RunEnded):
            assert event.state == "complete"
    assert took is not None
    return took


# ---- by hand --------------------------------------------------------------------------------------------------------


def small_cnn() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    pooled = [*block(3, 32), nn.MaxPool2d(2), *block(32, 64), nn.MaxPool2d(2), *block(64, 128)]
    return nn.Sequential(*pooled, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 28 * 28, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def model_of(case: Case, classes: int) -> nn.Module:
    """torch's own layers, with random weights, which take as long as trained ones."""
    import timm  # here, once the lab has put torchvision right beside torch

    torch.manual_seed(0)
    if case.backbone == "efficientnet_lite0":
        found: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=classes, drop_rate=0.0)
        return found
    return small_cnn() if case.backbone == "small_cnn" else perceptron()


def normalised(images: Tensor) -> Tensor:
    """uint8 [N, H, W, C] as float32 [N, 3, H, W], channels last."""
    return images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float().sub_(127).div_(128)


def by_hand(case: Case, device: str, precision: str) -> Took:
    """The same work as one would write it for this case alone."""
    here, autocast = torch.device(device), precision == "bfloat16"
    data = pictures.load(case.task, case.size, cache=CACHE)
    model = model_of(case, len(data.info.classes)).to(here, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pretrained = case.start == "pretrained"
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for parameter in (parameter for norm in norms for parameter in norm.parameters()):
        parameter.requires_grad_(not pretrained)
    splits = (data.train, data.validation, data.test)
    pairs = [(torch.from_numpy(s.images).to(here), torch.from_numpy(s.labels).to(here)) for s in splits]
    (images, labels), *held_out = pairs
    *trunk, weight, bias = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam([{"params": trunk, "lr": 5e-4}, {"params": [weight, bias], "lr": 3e-3}], fused=True)
    steps = math.ceil(len(labels) / case.batch) * case.epochs
    warmup = round(0.1 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (
            (s + 1) / warmup if s < warmup else 0.5 * (1 + math.cos(math.pi * (s - warmup) / max(1, steps - warmup)))
        ),
    )
    looks = live_looks(len(labels) * case.epochs, 1)
    look_at = {round(i * steps / looks.points) for i in range(looks.points)}
    begun, looking, step = time.perf_counter(), 0.0, 0
    for epoch in range(case.epochs):
        order = torch.randperm(len(labels), generator=stream(0, epoch)).to(here)
        for index in order.split(case.batch):  # type: ignore[no-untyped-call]
            if step in look_at:
                looking += look(model, *(tensor[: looks.pictures] for tensor in held_out[0]))
            model.train(not pretrained)
            optimizer.zero_grad()
            with torch.autocast(here.type, torch.bfloat16, enabled=autocast):
                loss = functional.cross_entropy(model(normalised(images[index])), labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            assert math.isfinite(loss.item())
            step += 1
    looking += sum(look(model, *pair) for pair in held_out)
    return Took(time.perf_counter() - begun - looking, looking, steps)


@torch.no_grad()
def look(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The seconds that it takes to see how often the model is right."""
    begun, chunk = time.perf_counter(), batches.CHUNK
    model.eval()
    for i in range(0, len(labels), chunk):
        int((model(normalised(images[i : i + chunk])).argmax(1) == labels[i : i + chunk]).sum())
    return time.perf_counter() - begun


# ---- the feature cache ----------------------------------------------------------------------------------------------


def cached_against_not(device: str, epochs: int = 5) -> tuple[float, float]:
    """The seconds that feature extraction trains, with and without the feature cache, looking not counted."""
    run = parse(
        {
            "backbone": {"name": "efficientnet_lite0", "start": "pretrained", "image_size": 64, "norm": "frozen"},
            "tasks": [{"name": "fans"}],
            "training": {"epochs": epochs, "batch_size": 32},
            "method": {"name": "feature_extraction"},
        }
    )

    def seconds() -> float:
        events = loop.train(run, device=device, cache=CACHE)
        return next(event.train_seconds for event in events if isinstance(event, StageEnded))

    limit = batches.LARGEST_FEATURE_CACHE
    rounds = []
    for _ in range(5):
        cached = seconds()
        lessons_of_a_phase.LARGEST_FEATURE_CACHE = 0  # type: ignore[attr-defined]
        try:
            rounds.append((cached, seconds()))
        finally:
            lessons_of_a_phase.LARGEST_FEATURE_CACHE = limit  # type: ignore[attr-defined]
    cached, plain = (statistics.median(column) for column in zip(*rounds, strict=True))
    return cached, plain


def medians(rounds: Sequence[Sequence[Took]]) -> list[tuple[float, float]]:
    """Of each side: the median seconds of training and of looking."""
    return [
        (statistics.median(took.training for took in side), statistics.median(took.looking for took in side))
        for side in zip(*rounds, strict=True)
    ]


def main() -> None:
    """Print a table: by hand, by the engine, their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    asked = parser.parse_args()
    if asked.threads:
        os.environ["REUSE_LAB_THREADS"] = str(asked.threads)
    threads = hardware.prepare()
    print(f"{threads} threads\n")
    print("| case | | by hand (s) | engine (s) | ratio | aim |\n|---|---|---|---|---|---|")
    for case in CASES:
        if not case.name.startswith(asked.only):
            continue
        sides = (by_hand, engine)
        rounds = [[side(case, asked.device, asked.precision) for side in sides] for _ in range(asked.rounds)]
        assert len({took.steps for pair in rounds for took in pair}) == 1
        (hand, hand_looks), (ours, our_looks) = medians(rounds)
        yardstick = f"{case.name} ({1000 * hand / rounds[0][0].steps:.1f} ms a step by hand)"
        print(f"| {yardstick} | steps | {hand:.2f} | {ours:.2f} | {ours / hand:.3f} | ≤ {case.training} |")
        looks = our_looks / hand_looks
        print(f"| | looking | {hand_looks:.2f} | {our_looks:.2f} | {looks:.3f} | ≤ {case.looking} |", flush=True)
    if not asked.only:
        cached, plain = cached_against_not(asked.device)
        print(
            f"\nFeature extraction, 5 epochs: {plain:.2f} s without the feature cache, {cached:.2f} s with it: ", end=""
        )
        print(f"{plain / cached:.1f} × as fast (aim: ≥ 4 ×)")


if __name__ == "__main__":
    main()
