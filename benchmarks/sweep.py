"""A sweep that shares its first stage against the same runs trained one by one, in one run.

    python -m benchmarks.sweep [ROUNDS]

Eight strengths of EWC on the quick preset's three tasks, without warming heads up, so that all stages take equally long
(the first has nothing to warm up). Both sides are one process of the command line, so that neither pays for more starts
than the other, in a store of its own whose pictures are decoded. Stage 1 is trained once instead of eight times, so the
least there can be is 17/24 = 0.71 of the time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STRENGTHS = "0,1,10,100,1000,10000,100000,1000000"
SWEEP = ["sweep", "--preset", "quick", "--method", "ewc", "--vary", f"method.strength={STRENGTHS}", "--json"]
SWEEP += ["--set", "training.head_warmup_epochs=0"]
# The parts of a result that a clock or the machine decides, and those that tell the two sides apart.
APART = {"run", "cached", "stages", "test_ms_per_image", "peak_memory_bytes", "energy_wh", "carbon_g"}
AIM = 0.78


def lab(home: Path, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """The seconds that a command took, and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "labcore", *arguments],
        env={**os.environ, "REUSE_LAB_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - begun, json.loads(done.stdout)


def once() -> tuple[float, float]:
    """The seconds of the runs one by one, and of the sweep. Both must have the same figures."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        for home in (one, other):  # these runs decode the pictures
            lab(Path(home), "run", "--preset", "quick", "--json", "--no-cache", "--set", "training.epochs=1")
        alone, apart = lab(Path(one), *SWEEP, "--no-cache")
        shared, together = lab(Path(other), *SWEEP)
    for a, b in zip(apart, together, strict=True):
        assert {k: v for k, v in a.items() if k not in APART} == {k: v for k, v in b.items() if k not in APART}
        assert not any(stage["reused"] for stage in a["stages"])
    assert [b["stages"][0]["reused"] for b in together] == [False, *[True] * 7]
    return alone, shared


if __name__ == "__main__":
    print("| eight strengths of EWC, quick | one by one | sweep | ratio | aim |\n|---|---|---|---|---|")
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
        alone, shared = once()
        print(f"| round {number + 1} | {alone:.1f} s | {shared:.1f} s | {shared / alone:.3f} | ≤ {AIM} |", flush=True)
