"""Benchmarks: both sides in one run, ratios rather than seconds where that can be. `make bench` runs them."""

import os
import sys

# A person's processes keep their compiled modules. Without them, each process that starts would compile the lab first.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
