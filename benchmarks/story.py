"""All methods on a preset, three seeds each: the table of docs/performance.md, with the article's beside it.

    python -m benchmarks.story [PRESET [SEEDS]]

Each run is the command line's own, in the store that REUSE_LAB_HOME names (else the usual one). Runs that are there
already are only read, so it can be stopped and started again. Seconds are those of training, measured when a stage was
trained.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from labcore.configs import presets
from labcore.configs.registry import of_group
from labcore.runs.results import RunResult
from labcore.studies.criteria import criteria


def run(preset: str, method: str, seed: int) -> RunResult:
    """One run's result; progress goes to stderr."""
    command = [sys.executable, "-m", "labcore", "run", "--preset", preset, "--method", method, "--seed", str(seed)]
    done = subprocess.run([*command, "--device", "cpu", "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return RunResult.model_validate(json.loads(done.stdout))


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Mean ± standard deviation of a sample."""
    mean = scale * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {scale * statistics.stdev(values):.{digits}f}"


def main(preset: str, seeds: int) -> None:
    tasks = presets.preset(preset).task_names
    heads = ["method", *(f"{task} (%)" for task in tasks), "ACC (%)", "forgetting (points)"]
    heads += ["training (s)", "ms/image", "kept (MB)", *criteria()]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for about in of_group("article"):
        method = about.name
        results = [run(preset, method, seed) for seed in range(seeds)]
        last = [result.accuracy_matrix[-1] for result in results]
        cells = [about.title]
        cells += [spread([row[k] or 0.0 for row in last], 100) for k in range(len(tasks))]
        cells.append(spread([result.average_accuracy or 0.0 for result in results], 100))
        cells.append(spread([result.mean_forgetting or 0.0 for result in results], 100))
        cells.append(spread([result.train_seconds for result in results], digits=0))
        cells.append(spread([result.test_ms_per_image or 0.0 for result in results]))
        cells.append(spread([result.footprint_bytes["total"] for result in results][:1], 1e-6))
        print(f"| {' | '.join([*cells, *(about.verdict.of(name).word for name in criteria())])} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "story", int(sys.argv[2]) if len(sys.argv) > 2 else 3)
