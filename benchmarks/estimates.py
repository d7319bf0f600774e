"""What a page says that a run will cost, against what it cost: presets and methods, each in a process of its own.

    python -m benchmarks.estimates [--device cuda:0] [PRESET …]

Maps are recorded, as a worker does. Pictures are decoded beforehand. A run's memory is the process's peak less what it
was when the engine had been imported; the last column is the whole process, torch and all, which on the story is to
stay under 1.5 GB.
"""

import argparse
import json
import subprocess
import sys
import tempfile

from labcore.configs import presets
from labcore.configs.registry import METHODS
from labcore.studies.estimates import estimate
from labcore.training.hardware import prepare
from labcore.training.speed import measure

_RUN = """
import json, sys, tempfile, time
from pathlib import Path
from labcore.training import hardware, loop
from labcore.configs import presets

def peak():  # kB of this process alone: what a parent used before it is not in it
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

name, method, cache, device = sys.argv[1:]
config = presets.preset(name, method)
for task in config.tasks:
    pictures.load(task.name, config.backbone.image_size, cache=Path(cache))
import torch
torch.optim.Adam([torch.zeros(1)])  # brings the compiler
hardware.prepare()  # as a worker does, and as the speed was measured
before = peak()
begun = time.perf_counter()
with tempfile.TemporaryDirectory() as maps:
    for event in loop.train(config, device=device, cache=Path(cache), maps=Path(maps)):
        pass
seconds = time.perf_counter() - begun
needed = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak() - before
print(json.dumps([seconds, needed, peak()]))
"""


def main(names: list[str], device: str) -> None:
    """Print a table: estimated, measured, and their ratio, for which the aim in seconds is 1/1.5 to 1.5.

    A name is that of a preset, which stands for all methods, or `preset/method`.
    """
    prepare()
    print("| preset, method | estimated | took | ratio | memory, estimated | at its peak | process |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for name, _, only in (name.partition("/") for name in names):
            backbone = presets.preset(name).backbone
            speed = measure(backbone.name, backbone.image_size, device, lambda: False)
            assert speed is not None
            for method in [only] if only else METHODS:
                told = estimate(presets.preset(name, method), speed)
                command = [sys.executable, "-c", _RUN, name, method, cache, device]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, memory, whole = json.loads(done.stdout)
                print(
                    f"| {name}, {method} | {told.seconds:.1f} s | {seconds:.1f} s | {told.seconds / seconds:.2f} "
                    f"| {told.memory / 1e6:.0f} MB | {memory / 1e6:.0f} MB | {whole / 1e6:.0f} MB |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("presets", nargs="*")
    given = parser.parse_args()
    default = ["quick", "story", "long/feature_extraction", "long/fine_tuning", "long/joint"]
    main(given.presets or default, given.device)
