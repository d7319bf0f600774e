"""What a page says that a run will cost, against what it cost: presets and methods, each in a process of its own.

    python -m benchmarks.estimates [--device cuda:0] [PRESET …]

Maps are recorded, as a worker does. Pictures are decoded beforehand. A run's memory is the process's peak less what it
was when the engine had been imported; the last column is the whole process, torch and all, which on the story is to
stay under 1.5 GB.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from labcore.configs import presets
from labcore.configs.registry import METHODS
from labcore.runs.events import Event
from labcore.runs.results import Fold
from labcore.studies.estimates import Speed, estimate
from labcore.studies.forecast import forecast
from labcore.training.hardware import prepare
from labcore.training.speed import measure

_RUN = """
import json, sys, tempfile, time
from pathlib import Path
from benchmarks.estimates import told_ahead
from labcore.configs import presets
from labcore.studies.estimates import Speed
from labcore.tasks import pictures
from labcore.training import hardware, loop

def peak():  # kB of this process alone: what a parent used before it is not in it
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

name, method, cache, device, speed = sys.argv[1:]
config = presets.preset(name, method)
for task in config.tasks:
    pictures.load(task.name, config.backbone.image_size, cache=Path(cache))
import torch
torch.optim.Adam([torch.zeros(1)])  # brings the compiler
hardware.prepare()  # as a worker does, and as the speed was measured
before, events = peak(), []
begun = time.perf_counter()
with tempfile.TemporaryDirectory() as maps:
    for event in loop.train(config, device=device, cache=Path(cache), maps=Path(maps)):
        events.append(event.model_copy(update={"time": time.time()}))
seconds = time.perf_counter() - begun
needed = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak() - before
print(json.dumps([seconds, needed, peak(), *told_ahead(events, Speed.model_validate_json(speed))]))
"""


def told_ahead(events: Sequence[Event], speed: Speed) -> tuple[float, float]:
    """How far from the truth the time left was, as a factor, between 10 and 90 % of a run, and by what it rose at most.

    Within the last tenth a second more or less would count as much as a minute does before.
    """
    told, begun, end = Fold(), events[0].time, events[-1].time
    factor, rise, least = 1.0, 1.0, math.inf
    for event in events:
        told.add(event)
        left, truth = forecast(told, speed).seconds_left, end - event.time
        if left is None or not 0.1 <= (event.time - begun) / (end - begun) <= 0.9:
            continue
        factor = max(factor, left / truth, truth / max(left, 1e-9))
        rise, least = max(rise, left / least), min(least, left)
    return factor, rise


def main(names: list[str], device: str) -> None:
    """Print a table: estimated, measured, and their ratio, for which the aim in seconds is 1/1.5 to 1.5.

    `left` is how far from the truth the time left was after a tenth of the run, as a factor (aim: 1.3), and `rise` by
    what it rose at most (aim: 1.2).

    A name is that of a preset, which stands for all methods, or `preset/method`.
    """
    prepare()
    print("| preset, method | estimated | took | ratio | left | rise | memory, estimated | at its peak | process |")
    print(f"|{'---|' * 9}", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for name, _, only in (name.partition("/") for name in names):
            backbone = presets.preset(name).backbone
            speed = measure(backbone.name, backbone.image_size, device, lambda: False)
            assert speed is not None
            for method in [only] if only else METHODS:
                told = estimate(presets.preset(name, method), speed)
                command = [sys.executable, "-c", _RUN, name, method, cache, device, speed.model_dump_json()]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, memory, whole, factor, rise = json.loads(done.stdout)
                print(
                    f"| {name}, {method} | {told.seconds:.1f} s | {seconds:.1f} s | {told.seconds / seconds:.2f} "
                    f"| {factor:.2f} | {rise:.2f} | {told.memory / 1e6:.0f} MB | {memory / 1e6:.0f} MB "
                    f"| {whole / 1e6:.0f} MB |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("presets", nargs="*")
    given = parser.parse_args()
    default = ["quick", "story", "long/feature_extraction", "long/fine_tuning", "long/joint"]
    main(given.presets or default, given.device)
