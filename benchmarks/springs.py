"""A step of EWC against a step of fine-tuning, after one old task and after ten, in one run.

    python -m benchmarks.springs

The steps are those of the engine: loss, backward, optimizer. Importance and anchors are random: a step does not care.
"""

import statistics
import time

import torch

from labcore.configs.reading import parse
from labcore.methods.base import Method
from labcore.methods.ewc.learn import EWC
from labcore.methods.load import learner
from labcore.networks.batches import Batch, load_task
from labcore.networks.network import Network
from labcore.training import hardware

BATCH, ROUNDS, STEPS = 64, 30, 20
AIMS = {"mlp": 1.12, "small_cnn": 1.02}


def begin(backbone: str, name: str, old_tasks: int) -> Method:
    """A method in its stage 2, with the springs of that many old tasks."""
    config = parse(
        {
            "backbone": {"name": backbone, "start": "kaiming", "image_size": 28},
            "tasks": [{"name": "fashion"}, {"name": "fashion"}],
            "method": {"name": name},
        }
    )
    device = torch.device("cpu")
    network = Network(config.backbone, 0, device)
    loaded = [load_task(position, config.tasks[0], 28, None, device) for position in (1, 2)]
    method = learner(name)(network, config, loaded)
    for position in (1, 2):
        network.add_task(position, 10)
    if isinstance(method, EWC):
        for task in range(1, old_tasks + 1):
            method.importance[task] = {n: torch.rand_like(w, requires_grad=False) for n, w in method.weights.items()}
            method.anchors[task] = {n: w.detach() + 0.01 for n, w in method.weights.items()}
        method.tie()
    return method


def seconds(method: Method) -> float:
    """The seconds that STEPS steps take."""
    network, config = method.network, method.run
    phase = method.phases(2)[-1]
    for tensor in network.tensors().values():
        if tensor.is_floating_point():
            tensor.requires_grad_(False)
    parameters = [network.tensors()[name].requires_grad_(True) for name in method.trainable(2, phase)]
    optimizer = torch.optim.Adam(parameters, lr=config.training.learning_rate, fused=True)
    task = method.tasks[1]
    images, labels = task.train.images[:BATCH], task.train.labels[:BATCH]
    index = torch.arange(BATCH)
    begun = 0.0
    for step in range(STEPS + 3):
        if step == 3:
            begun = time.perf_counter()
        batch = Batch(network.trunk.normalise(images), labels, 0, 2, torch.full((BATCH,), 2), index, False)
        optimizer.zero_grad(set_to_none=True)
        terms = method.loss(batch)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            method.before_step(batch)
        optimizer.step()
        for term in terms.values():
            float(term.detach())
    return time.perf_counter() - begun


def main() -> None:
    hardware.prepare()
    print(f"| network, batch {BATCH} | fine-tuning | EWC, 1 old task | EWC, 10 | ratios | aim |")
    print("|---|---|---|---|---|---|")
    for backbone, aim in AIMS.items():
        methods = [begin(backbone, "fine_tuning", 0), begin(backbone, "ewc", 1), begin(backbone, "ewc", 10)]
        rounds = [[seconds(method) for method in methods] for _ in range(ROUNDS)]
        plain, one, ten = (statistics.median(column) / STEPS * 1000 for column in zip(*rounds, strict=True))
        print(
            f"| {backbone} | {plain:.2f} ms | {one:.2f} ms | {ten:.2f} ms "
            f"| {one / plain:.2f}, {ten / plain:.2f} | ≤ {aim} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
