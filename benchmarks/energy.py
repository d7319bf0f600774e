"""What measuring a run's energy costs: the same training with and without the meter, in turns, in one run.

    python -m benchmarks.energy

Prints the processor's seconds of both, all threads together (the best of many short rounds in turns), and their ratio,
what a reading takes, and how long codecarbon takes to look at the machine for the first time and for a later run.
"""

import contextlib
import statistics
import time

from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.runs import energy
from labcore.training import loop

ROUNDS = 12
AIM = 1.01


def config() -> RunConfig:
    return parse(
        {
            "backbone": {"name": "small_cnn", "start": "kaiming", "image_size": 28, "norm": "shared"},
            "tasks": [{"name": "fashion"}],
            "training": {"epochs": 2, "batch_size": 64},
            "method": {"name": "fine_tuning"},
        }
    )


def seconds(measured: bool) -> float:
    """The processor's seconds, in all threads, for training and measuring from the first stage's begin to its end."""
    begun = ended = 0.0
    with energy.metering("cpu") if measured else contextlib.nullcontext() as meter:
        for event in loop.train(config(), meter=meter):
            if event.event == "stage_started":
                begun = time.process_time()
            if event.event == "stage_ended":
                ended = time.process_time()
    return ended - begun


def main() -> None:
    openings = []
    for _ in range(3):
        begun = time.perf_counter()
        with energy.metering("cpu") as meter:
            openings.append(time.perf_counter() - begun)
            if meter is None:
                raise SystemExit("Energy cannot be measured here.")
            readings = []
            for _ in range(20):
                time.sleep(0.1)
                begun = time.perf_counter()
                meter.read()
                readings.append(time.perf_counter() - begun)
            print(f"a reading: {1000 * statistics.median(readings):.1f} ms ({meter.method})")
    print(f"opening the meter: {openings[0]:.2f} s the first time, {1000 * min(openings[1:]):.0f} ms later")
    seconds(measured=False)  # this round only warms up
    plain, metered = [], []
    for _ in range(ROUNDS):
        plain.append(seconds(measured=False))
        metered.append(seconds(measured=True))
    ratio = min(metered) / min(plain)
    print(f"processor time of training: {min(plain):.2f} s without, {min(metered):.2f} s with: {ratio:.3f} (aim {AIM})")


if __name__ == "__main__":
    main()
