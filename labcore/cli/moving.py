"""Commands that take a run away in a zip, and bring one back: `export`, `import`."""

import argparse
import sys
from pathlib import Path

from labcore.cli.command import GOOD, Command, add_run, opened, show
from labcore.runs import archive


def _declare_export(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("file", metavar="OUT.zip", type=Path)


def _export(options: argparse.Namespace) -> int:
    missing, damaged, maps = archive.export_run(opened(), options.run, options.file)
    if missing:
        print(f"Stages without stored arrays, left out: {', '.join(map(str, missing))}.", file=sys.stderr)
    if damaged:
        print(f"Stages whose arrays are damaged, left out: {', '.join(map(str, damaged))}.", file=sys.stderr)
    if maps:
        print(f"Maps that are damaged, left out: {maps}.", file=sys.stderr)
    found = {
        "run": options.run,
        "file": str(options.file),
        "missing_stages": missing,
        "damaged_stages": damaged,
        "damaged_maps": maps,
    }
    show(options, found, lambda: f"{options.run}: written to {options.file}")
    return GOOD


def _declare_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="IN.zip", type=Path)


def _import(options: argparse.Namespace) -> int:
    run = archive.import_run(opened(), options.file)
    show(options, {"run": run}, lambda: run)
    return GOOD


COMMANDS = (
    Command("export", "write a run to a zip", _export, _declare_export),
    Command("import", "read a run from a zip", _import, _declare_import),
)
