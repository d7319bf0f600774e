"""How long "Measure all eight" takes here, beside another commit of the lab: fresh stores, a worker each, in turn.

    git worktree add ../before 4475bb9
    python -m benchmarks.tables ../before [PRESET …]

What is timed is a worker from its start to its end: one start-up, the drawing of pictures, maps and answer times are
in it. Both commits run in this virtual environment, and the machine should have nothing else to do.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent.parent
_QUEUE = """
import sys
from labcore.runs.store import Store
from labcore.studies import experiments, questions
from labcore.studies.reader import Reader
store = Store()
print(len(experiments.queue(store, Reader(store).look(questions.named("table", sys.argv[1], 1)), "cpu")))
"""
_TOLD = """
import sys
from labcore.runs.store import Store
from labcore.studies import questions
from labcore.studies.reader import Reader
findings = Reader(Store()).look(questions.named("table", sys.argv[1], 1))
for arm in findings.experiment.arms:
    accuracy = findings.spread(arm.label, "accuracy").mean
    print(f"{arm.label}|" + ("not complete" if accuracy is None else f"{100 * accuracy:.1f} %"))
"""


def _python(checkout: Path, home: str, *arguments: str) -> str:
    """What a command of that commit prints. Raises CalledProcessError."""
    environment = {**os.environ, "REUSE_LAB_HOME": home, "PYTHONPATH": str(checkout)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def measured(checkout: Path, preset: str) -> tuple[float, dict[str, str]]:
    """Seconds of a preset's table in a fresh store, and each method's accuracy over all tasks at the end."""
    with tempfile.TemporaryDirectory() as home:
        _python(checkout, home, "-c", _QUEUE, preset)
        begun = time.perf_counter()
        _python(checkout, home, "-m", "labcore", "worker", "--device", "cpu", "--until-idle")
        seconds = time.perf_counter() - begun
        rows = _python(checkout, home, "-c", _TOLD, preset).splitlines()
    return seconds, dict(row.split("|", 1) for row in rows)


def main(before: Path, names: list[str]) -> None:
    """A table for each preset: seconds of both commits, their ratio (aim: 0.5 of 4475bb9), and accuracies."""
    for preset in names:
        now, accuracies = measured(HERE, preset)
        print(f"{preset}: now {now:.1f} s", flush=True)
        then, earlier = measured(before, preset)
        print(f"{preset}: before {then:.1f} s, ratio {now / then:.3f}\n\n| method | before | now |\n|---|---|---|")
        for label, accuracy in accuracies.items():
            print(f"| {label} | {earlier.get(label, 'not there')} | {accuracy} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path)
    parser.add_argument("presets", nargs="*")
    given = parser.parse_args()
    main(given.before.resolve(), given.presets or ["quick", "story"])
