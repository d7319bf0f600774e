"""What grows with the number of jobs, and what does not.

    python -m benchmarks.growth [--jobs 2,5,10,20] [--methods fine_tuning,ewc] [--backbone small_cnn]

Jobs of two classes each, three passes, 28 px; `--backbone efficientnet_lite0` at 64 px, for which up to 5 jobs are
enough. A row is one run: the seconds of training that its second and its last stage took, looking as a share of the
whole run, and what is kept and needed in memory by the end.

With `--pages` it is what pages take that show a run of so many jobs, in seconds of the processor; a tick is drawn as if
it had news.
"""

import argparse
import tempfile
from itertools import cycle, islice
from pathlib import Path

from benchmarks import stores
from labcore.configs.base import ConfigError
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.runs.events import FootprintMeasured, RunEnded, StageEnded
from labcore.runs.store import Store
from labcore.training import loop, worker

CACHE = Path(tempfile.gettempdir()) / "reuse-lab-benchmark"
PAIRS = tuple(f"{task}:{first}-{first + 1}" for first in range(0, 9) for task in ("digits", "fashion"))
PASSES = 3


def configured(method: str, backbone: str, jobs: int) -> RunConfig:
    """A run of so many jobs. Raises ConfigError where the method cannot learn as many."""
    large = backbone != "small_cnn"
    return parse(
        {
            "backbone": {
                "name": backbone,
                "start": "pretrained" if large else "kaiming",
                "image_size": 64 if large else 28,
                "norm": "frozen",
            },
            "tasks": [{"name": name} for name in islice(cycle(PAIRS), jobs)],
            "training": {"epochs": PASSES},
            "method": {"name": method},
        }
    )


def row(method: str, backbone: str, jobs: int) -> str:
    """Train one run, and tell it as a row of the table."""
    config = configured(method, backbone, jobs)
    stages: list[StageEnded] = []
    kept = peak = answering = 0.0
    for event in loop.train(config, cache=CACHE):
        match event:
            case StageEnded():
                stages.append(event)
            case FootprintMeasured():
                kept = sum(event.kept.values()) / 1e6
            case RunEnded():
                assert event.state == "complete", event.error
                peak, answering = (event.peak_memory_bytes or 0) / 1e6, event.test_ms_per_image or 0.0
    trained = sum(stage.train_seconds for stage in stages)
    looked = sum(stage.evaluation_seconds for stage in stages)
    second, last = stages[1], stages[-1]
    return (
        f"| {method} | {jobs} | {second.train_seconds:.2f} | {last.train_seconds:.2f} "
        f"| {last.train_seconds / second.train_seconds:.2f} | {last.evaluation_seconds:.2f} "
        f"| {100 * looked / (trained + looked):.0f} % | {kept:.1f} | {peak:.0f} | {answering:.1f} |"
    )


def shown(method: str, backbone: str, jobs: int) -> None:
    """Print what each page takes that shows such a run, beside an empty store."""
    # What is counted beside a page may still write into the store while it is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store = Store(Path(folder) / "own")
        record = worker.run_claim(store.claim_run(store.submit(configured(method, backbone, jobs)).run), "cpu")
        assert record.state == "complete", record.error
        stores.pages(store.root, Path(folder) / "empty", f"{method}, {jobs} jobs")
        store.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="2,5,10,20")
    parser.add_argument("--methods", default=",".join(ABOUT))
    parser.add_argument("--backbone", default="small_cnn", choices=["small_cnn", "efficientnet_lite0"])
    parser.add_argument("--pages", action="store_true")
    asked = parser.parse_args()
    if asked.pages:
        for method in asked.methods.split(","):
            shown(method, asked.backbone, max(map(int, asked.jobs.split(","))))
        return
    print(
        "| method | jobs | stage 2 trains (s) | last stage (s) | ratio | last stage looks (s) | looking of all "
        "| kept (MB) | peak (MB) | ms/answer |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for jobs in map(int, asked.jobs.split(",")):
        for method in asked.methods.split(","):
            try:
                print(row(method, asked.backbone, jobs), flush=True)
            except ConfigError as error:  # PackNet's network is full at some number of jobs
                print(f"| {method} | {jobs} | {error} |", flush=True)


if __name__ == "__main__":
    main()
