"""The same training in Avalanche, which many use for learning one job after another, and in the lab.

    python -m benchmarks.peers [--rounds 3] [--only small_cnn]

The same network, start, pictures, order, steps and optimizer; two jobs in a row. Avalanche gets its pictures once as
tensors that are normalised beforehand, in memory, and once in its users' usual way: pictures that are turned into
tensors and normalised when they are read. Each run is a process of its own, in turn. Only steps are timed, and peak
memory is the process's. Accuracy is that on the test images of both jobs at the end. It need not be the same: heads
start from each library's own draws, Avalanche keeps its optimizer from job to job, its EWC squares the mean gradient of
a batch where the lab squares each picture's, and its LwF weighs its terms otherwise.

It needs Avalanche, in a virtual environment of its own that also sees the lab's packages:

    python3.11 -m venv peers
    echo "$PWD/.venv/lib/python3.11/site-packages" > peers/lib/python3.11/site-packages/lab.pth
    peers/bin/pip install --no-deps avalanche-lib==0.6.0
    peers/bin/pip install setuptools tqdm dill gdown gputil matplotlib
    peers/bin/pip install pytorchcv qpsolvers tensorboard torchmetrics wandb
    peers/bin/python -m benchmarks.peers
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.engine import CACHE, perceptron, small_cnn
from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.networks import backbones
from labcore.networks.batches import epoch_order
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.runs.events import Evaluated, RunEnded, StageEnded
from labcore.tasks import pictures
from labcore.training import hardware, loop

BATCH, RATE = 32, 5e-4
WAYS = ("prepared", "usual")


@dataclass(frozen=True)
class Case:
    """What is trained; `aims` say how often as fast as Avalanche, on prepared tensors and in its usual way."""

    backbone: str
    method: str
    size: int
    epochs: int
    aims: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return f"{self.backbone}, {self.method}"


CASES = [
    Case("mlp", "fine_tuning", 28, 12, (1.6, 3.7)),
    Case("mlp", "ewc", 28, 12),
    Case("mlp", "lwf", 28, 12),
    Case("mlp", "joint", 28, 8),
    Case("small_cnn", "fine_tuning", 28, 4, (1.1, 1.4)),
    Case("small_cnn", "ewc", 28, 4),
    Case("small_cnn", "lwf", 28, 4),
    Case("small_cnn", "joint", 28, 3),
    Case("efficientnet_lite0", "fine_tuning", 64, 1, (1.6, 1.8)),
]


def config(case: Case) -> RunConfig:
    """Two jobs of 640 pictures, which batches of 32 divide."""
    start = "pretrained" if case.backbone == "efficientnet_lite0" else "kaiming"
    return parse(
        {
            "backbone": {"name": case.backbone, "start": start, "image_size": case.size, "norm": "shared"},
            "tasks": [{"name": name, "images_per_class": 64} for name in ("digits", "fashion")],
            "training": {
                "epochs": case.epochs,
                "batch_size": BATCH,
                "learning_rate": RATE,
                "head_learning_rate": RATE,
                "head_warmup_epochs": 0,
                "warmup_fraction": 0,
                "schedule": "constant",
            },
            "method": {"name": case.method},
        }
    )


def lab(case: Case) -> dict[str, Any]:
    """What the lab takes for it."""
    seconds, images, accuracy = 0.0, 0, 0.0
    for event in loop.train(config(case), cache=CACHE):
        match event:
            case StageEnded():
                seconds, images = seconds + event.train_seconds, images + event.images_seen
            case Evaluated(kind="test"):
                accuracy = statistics.fmean(event.accuracy)
            case RunEnded():
                assert event.state == "complete", event.error
    return {"seconds": seconds, "images": images, "accuracy": accuracy}


# ---- Avalanche ------------------------------------------------------------------------------------------------------


def plain_trunk(case: Case, source: Trunk) -> nn.Module:
    """torch's own layers, which start where the lab's trunk starts."""
    if case.backbone == "efficientnet_lite0":
        import timm

        found: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        found.load_state_dict(source.state_dict())
        return found
    layers = list((small_cnn() if case.backbone == "small_cnn" else perceptron()).children())
    found = nn.Sequential(*layers[:-1])
    found.load_state_dict(dict(zip(found.state_dict(), source.state_dict().values(), strict=True)))
    return found


def avalanche(case: Case, way: str) -> dict[str, Any]:
    """What Avalanche takes for it."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.scenarios.supervised import with_classes_timeline
    from avalanche.benchmarks.scenarios.task_aware import with_task_labels
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset
    from avalanche.models import MultiHeadClassifier, MultiTaskModule
    from avalanche.training.plugins import SupervisedPlugin
    from avalanche.training.supervised import EWC, JointTraining, LwF, Naive

    torch.manual_seed(0)
    run = config(case)
    trunk = backbones.build(case.backbone, run.backbone.start, case.size, stream(run.seed, "trunk"))
    data = [pictures.load(task.name, case.size, task.images_per_class, CACHE) for task in run.tasks]

    class Net(MultiTaskModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.heads = plain_trunk(case, trunk), MultiHeadClassifier(trunk.width, 10, masking=False)

        def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
            found: Tensor = self.heads(self.trunk(x), task_labels)
            return found

    class Stopwatch(SupervisedPlugin):  # type: ignore[misc]
        seconds, images = 0.0, 0

        def before_training_epoch(self, strategy: Any, **_: Any) -> None:
            self.begun = time.perf_counter()

        def after_training_iteration(self, strategy: Any, **_: Any) -> None:
            self.images += len(strategy.mb_x)

        def after_training_epoch(self, strategy: Any, **_: Any) -> None:
            self.seconds += time.perf_counter() - self.begun

    def dataset(position: int, split: pictures.Split, epochs: int) -> Any:
        """All epochs one after the other, in the lab's order."""
        orders = [epoch_order(run.seed, position, "train", epoch, len(split.labels)) for epoch in range(epochs)]
        order = torch.cat(orders) if epochs else torch.arange(len(split.labels))
        return _make_taskaware_classification_dataset(_Pictures(trunk, split, order, way), task_labels=position - 1)

    train = [dataset(position, split.train, case.epochs) for position, split in enumerate(data, 1)]
    test = [dataset(position, split.test, 0) for position, split in enumerate(data, 1)]
    datasets = benchmark_from_datasets(train=train, test=test)
    scenario = with_classes_timeline(with_task_labels(datasets))
    net, watch = Net(), Stopwatch()
    net.to(memory_format=torch.channels_last)
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "fine_tuning": (Naive, {}),
        "ewc": (EWC, {"ewc_lambda": 1000.0}),
        "lwf": (LwF, {"alpha": 1.0, "temperature": 2.0}),
        "joint": (JointTraining, {}),
    }
    kind, more = kinds[case.method]
    strategy = kind(
        model=net,
        optimizer=torch.optim.Adam(net.parameters(), lr=RATE, fused=True),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=1,
        eval_mb_size=50,
        plugins=[watch],
        evaluator=None,
        **more,
    )
    if case.method == "joint":
        strategy.train(scenario.train_stream, shuffle=False)
    else:
        for experience in scenario.train_stream:
            strategy.train(experience, shuffle=False)
    net.eval()
    return {"seconds": watch.seconds, "images": watch.images, "accuracy": _accuracy(net, trunk, data)}


class _Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Pictures in an order; normalised beforehand, or each time that one is read."""

    def __init__(self, trunk: Trunk, split: pictures.Split, order: Tensor, way: str) -> None:
        from PIL import Image
        from torchvision.transforms import functional as turn

        images = torch.from_numpy(split.images)
        self.order, self.targets = order.tolist(), torch.from_numpy(split.labels)[order].tolist()
        self.tensors = trunk.normalise(images).contiguous() if way == "prepared" else None
        grey = images.shape[3] == 1
        self.pictures = (
            []
            if way == "prepared"
            else [Image.fromarray(image.squeeze() if grey else image).convert("RGB") for image in split.images]
        )
        shift, scale = ([value / 255 for value in row] * (3 // len(row)) for row in (trunk.shift, trunk.scale))
        self.turned: Callable[[Any], Tensor] = lambda picture: turn.normalize(turn.to_tensor(picture), shift, scale)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        which = self.order[place]
        x = self.turned(self.pictures[which]) if self.tensors is None else self.tensors[which]
        return x, self.targets[place]


@torch.no_grad()
def _accuracy(net: nn.Module, trunk: Trunk, data: Sequence[pictures.TaskData]) -> float:
    found = []
    for position, task in enumerate(data):
        x, labels = trunk.normalise(torch.from_numpy(task.test.images)), torch.from_numpy(task.test.labels)
        logits = net(x, torch.full((len(x),), position))
        found.append(float((logits[:, : len(task.info.classes)].argmax(1) == labels).double().mean()))
    return statistics.fmean(found)


# ---- in turn --------------------------------------------------------------------------------------------------------


def here(case: Case, side: str) -> dict[str, Any]:
    """Train one of them in this process; memory is what it took over what it had before the first picture was read."""
    hardware.prepare()
    found = lab(case) if side == "lab" else avalanche(case, side)
    return {**found, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def elsewhere(case: Case, side: str) -> dict[str, Any]:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--one", json.dumps([CASES.index(case), side])],
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("LOUD") else subprocess.DEVNULL,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a row for each network and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        number, side = json.loads(asked.one)
        print(json.dumps(here(CASES[number], side)))
        return
    print(
        "| network, method | lab, images a second | over prepared | over usual | aim | memory | accuracy: lab, theirs |"
    )
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        if not case.name.startswith(asked.only):
            continue
        rounds = [[elsewhere(case, side) for side in ("lab", *WAYS)] for _ in range(asked.rounds)]
        rates = [
            statistics.median(found["images"] / found["seconds"] for found in side)
            for side in zip(*rounds, strict=True)
        ]
        memory = [statistics.median(found["memory"] for found in side) for side in zip(*rounds, strict=True)]
        accuracy = [100 * found["accuracy"] for found in rounds[0][:2]]
        aim = f"≥ {case.aims[0]}, {case.aims[1]}" if case.aims else ""
        print(
            f"| {case.name} | {rates[0]:,.0f} | {rates[0] / rates[1]:.2f} | {rates[0] / rates[2]:.2f} | {aim} "
            f"| {memory[0] / memory[1]:.2f} | {accuracy[0]:.1f}, {accuracy[1]:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
