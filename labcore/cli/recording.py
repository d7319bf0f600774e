"""The command `gallery`, which trains the recorded runs that ship with the lab."""

import argparse
import sys

from labcore.cli.command import FAILED, GOOD, Command, add_device, show
from labcore.cli.here import interrupts, ready, train_or_follow
from labcore.configs.recordings import RECORDINGS
from labcore.runs import energy, gallery, recording
from labcore.runs.store import Store


def _gallery(options: argparse.Namespace) -> int:
    wanted = [name for name in RECORDINGS if not recording.is_current(name)]
    written: list[str] = []
    if wanted:
        # A store of its own: no run that a person trained stands behind a recording, and what was stopped goes on.
        store = Store(gallery.FOLDER / "store")
        energy.warm_up()
        device = ready(options.device)
        with interrupts() as stop:
            for number, name in enumerate(wanted, 1):
                print(f"{name}, {number} of {len(wanted)}", file=sys.stderr, flush=True)
                run = store.submit(RECORDINGS[name].config).run
                train_or_follow(store, run, device, 20.0, stop, "all")
                record = store.record(run)
                if record.state == "complete":
                    recording.write(store, run, name)
                    written.append(name)
                elif record.error:
                    print(f"{name}: {record.error}", file=sys.stderr)
                if stop.is_set():
                    break
    lacking = [name for name in wanted if name not in written]
    current = [name for name in RECORDINGS if name not in lacking]
    found = {"written": written, "current": current, "lacking": lacking}
    words = f"{len(current)} of {len(RECORDINGS)} recorded runs are current, {len(written)} of them new."
    show(options, found, lambda: words)
    return FAILED if lacking else GOOD


COMMANDS = (
    Command("gallery", "train the recorded runs of the gallery that are missing or stale", _gallery, add_device),
)
