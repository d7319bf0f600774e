"""What a run costs the climate: watt-hours measured by codecarbon, grams of CO₂e by a country's electricity.

The watt-hours are codecarbon's estimate of what the training process draws: from the machine's own energy counters
where it may read them, else from the processor's rated power and the process's share of its time. What can only be
known of the machine as a whole is shared evenly among the runs that train at the time. Only a process that trains loads
codecarbon (it takes 1.5 s to look at a machine); pages read its tables of countries from its files. Nothing here uses
the network.
"""

import contextlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psutil

from labcore.configs.base import Frozen

log = logging.getLogger("labcore.runs.energy")

# How many watts a thread codecarbon takes a processor to need that is not in its list.
_WATTS_A_THREAD = 4
# So many seconds pass before codecarbon's own timer measures, which is never: it measures when we read, in one thread.
_NEVER = 1e6
_looking = threading.Lock()

Runs = Callable[[str | None], int]


class Meter(Protocol):
    """Something that tells how much was spent since it was opened. `method` says in words how it knows."""

    @property
    def method(self) -> str: ...  # noqa: D102

    def read(self) -> float | None:
        """The watt-hours since the meter was opened; None where it can no longer tell."""


# ---- measuring: in the process that trains --------------------------------------------------------------------------


@contextlib.contextmanager
def metering(device: str, runs: Runs = lambda device: 1) -> Iterator[Meter | None]:
    """For the block, give a meter of what this process does on a device; None, with a line in the log, without one.

    The processor and the memory count, and of the graphics cards the one that the device names. `runs` tells how many
    runs train just now, on a device or (None) on all: of what only the whole can tell, each counts an equal part.
    """
    with _looking:  # The first look at the machine may still be under way, in the thread of `warm_up`.
        meter = _open(device, runs)
    try:
        yield meter
    finally:
        if meter is not None:
            meter.close()


def warm_up() -> None:
    """Let codecarbon look at this machine in a thread of its own, so that the first run does not wait for it."""

    def look() -> None:
        with metering("cpu"):
            pass

    threading.Thread(target=look, name="energy").start()


def _open(device: str, runs: Runs) -> "_CodeCarbon | None":
    try:
        return _CodeCarbon(device, runs)
    except Exception as error:  # Whatever it is, a run is worth more than its energy figures.
        log.warning("Energy is not measured: %s: %s", type(error).__name__, error)
        return None


class _CodeCarbon:
    """The offline tracker of codecarbon, read like a meter.

    Each reading adds what was spent since the one before: of the processor what the process needed, where that can be
    told apart, and of everything else the part of one of the runs that train now.
    """

    def __init__(self, device: str, runs: Runs = lambda device: 1) -> None:
        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        logging.getLogger("codecarbon").setLevel(logging.ERROR)  # Its import has set the level to INFO.

        class Reading(BaseOutput):
            """The place where the tracker puts what it tells at a flush."""

            data: Any = None

            def out(self, total: Any, delta: Any) -> None:
                self.data = total

            live_out = out

        self._with_gpu = device.startswith("cuda")
        self._device, self._runs, self._spent = device, runs, 0.0
        self._told = (0.0, 0.0, 0.0)
        self._reading = Reading()
        # Everything that could make the tracker write, send or ask is set here, so that no configuration file and no
        # environment can turn it on. Those may still say what the machine is: `force_cpu_power`, `force_ram_power` and
        # `pue`.
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=None,
            region=None,
            country_2letter_iso_code=None,
            cloud_provider=None,
            cloud_region=None,
            force_carbon_intensity_g_co2e_kwh=0.0,  # We count grams where they are shown.
            output_methods=[],
            output_handlers=[self._reading],
            output_dir=tempfile.gettempdir(),
            emissions_endpoint=None,
            electricitymaps_api_token="",
            api_call_interval=-1,
            measure_power_secs=_NEVER,
            tracking_mode="process",
            gpu_ids=[_gpu(device)] if self._with_gpu else None,
            allow_multiple_runs=True,
            log_level="error",
            logger_preamble="",
        )
        self._tracker.start()
        _leave_children_out(self._tracker)
        self._knows_process = _knows_process(self._tracker)
        if self.read() is None:
            self.close()
            raise RuntimeError("codecarbon could not be started")
        self.method = _method(self._tracker, self._with_gpu)

    def read(self) -> float | None:
        self._reading.data = None
        try:
            self._tracker.flush()
            data = self._reading.data
            told = (data.cpu_energy, data.ram_energy, data.gpu_energy if self._with_gpu else 0.0)
            cpu, memory, card = (now - then for now, then in zip(told, self._told, strict=True))
            runs = max(1, self._runs(None))
            self._spent += (cpu if self._knows_process else cpu / runs) + memory / runs
            self._spent += card / max(1, self._runs(self._device)) if card else 0.0
            self._told = told
        except Exception as error:
            log.warning("Energy is no longer measured: %s: %s", type(error).__name__, error)
            return None
        return float(1000 * self._spent)

    def close(self) -> None:
        """End the threads of the tracker."""
        with contextlib.suppress(Exception):
            self._tracker.stop()


class _Alone(psutil.Process):
    """This process without its children: it starts none while it trains."""

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        return []


def _leave_children_out(tracker: Any) -> None:
    """Keep codecarbon from looking for our children.

    To find them it reads, three times a second, what the system knows of every process, which among a few hundred
    processes takes some per cent of a core. There is no setting for it. Should the names that are used here go away,
    readings will be slower and no less right.
    """
    for part in getattr(tracker, "_hardware", []):
        if hasattr(part, "_process"):
            part._process = _Alone()
        if hasattr(part, "_children"):
            part._children = False


def _knows_process(tracker: Any) -> bool:
    """Whether the processor's energy is told for this process alone, and not for the whole processor."""
    parts = [part for part in getattr(tracker, "_hardware", []) if type(part).__name__ == "CPU"]
    return bool(parts) and all(getattr(part, "_mode", "") == "cpu_load" for part in parts)


def _gpu(device: str) -> int | str:
    """The card that torch calls `cuda:N`, by its number or name with the driver."""
    number = int(device.partition(":")[2] or 0)
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    card = visible[number] if number < len(visible) else str(number)
    return int(card) if card.isdigit() else card


def _method(tracker: Any, with_gpu: bool) -> str:
    """Say in words how codecarbon knows. There is no public way to ask it; without an answer, it is only named."""
    parts = []
    for part in getattr(tracker, "_hardware", []):
        kind, mode, watts = type(part).__name__, getattr(part, "_mode", ""), getattr(part, "_tdp", None)
        if kind == "CPU" and mode == "cpu_load" and watts:
            guessed = watts == _WATTS_A_THREAD * (psutil.cpu_count() or 1)
            rated = f"{watts:.0f} W" + (f", taken as {_WATTS_A_THREAD} W a thread" if guessed else "")
            parts.append(f"the processor's rated power ({rated}) and this process's share of its time")
        elif kind == "CPU" and mode == "constant":
            parts.append("half of the processor's rated power")
        elif kind in ("CPU", "AppleSiliconChip", "Raspberry"):
            parts.append("the processor's own energy counters")
        elif kind == "GPU" and with_gpu:
            parts.append("the graphics card's own energy counter")
        elif kind == "RAM":
            parts.append(f"{part.total_power().W:.0f} W for memory")
    if not parts:
        return "as codecarbon does"
    shared = "memory's part" if _knows_process(tracker) and not with_gpu else "what is the whole machine's"
    return f"from {', '.join(reversed(list(dict.fromkeys(parts))))}; runs that train at once share {shared} evenly"


# ---- carbon: wherever it is shown -----------------------------------------------------------------------------------


class Country(Frozen):
    """A country's electricity: how many grams of CO₂e a kWh costs, and the year that this figure is of.

    `code` is the three letters of ISO 3166, and None for the world's average.
    """

    code: str | None
    name: str
    grams_a_kilowatt_hour: float
    year: int | None = None

    def grams(self, watt_hours: float | None) -> float | None:
        """How many grams of CO₂e so much electricity costs; None where the amount is not known."""
        return None if watt_hours is None else watt_hours / 1000 * self.grams_a_kilowatt_hour

    @property
    def text(self) -> str:
        """In words: `France, 56 g CO₂e/kWh (2023)`."""
        year = f" ({self.year})" if self.year else ""
        return f"{self.name}, {self.grams_a_kilowatt_hour:.0f} g CO₂e/kWh{year}"


# From IEA's Global Energy & CO₂ Status Report 2019, as it stands in codecarbon's carbon_intensity_per_source.json.
WORLD = Country(code=None, name="world average", grams_a_kilowatt_hour=475.0)


@lru_cache(maxsize=1)
def countries() -> dict[str, Country]:
    """The countries of codecarbon's table by code, in the order of their names. Without codecarbon there are none."""
    spec = find_spec("codecarbon")  # To import it would load what only a worker needs.
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / "data" / "private_infra" / "global_energy_mix.json"
    try:
        found = [
            Country(
                code=code, name=row["country_name"], grams_a_kilowatt_hour=row["carbon_intensity"], year=row["year"]
            )
            for code, row in json.loads(path.read_bytes()).items()
        ]
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        log.warning("The table of countries cannot be read: %s", error)
        return {}
    return {str(country.code): country for country in sorted(found, key=lambda country: country.name)}


def country(code: str | None) -> Country:
    """The country of this code; the world's average for None, and for a code that is not in the table."""
    return WORLD if code is None else countries().get(code, WORLD)


# ---- words ----------------------------------------------------------------------------------------------------------


def watt_hours(value: float | None) -> str:
    """Energy in two figures: `0.042 Wh`, `4.2 Wh`, `420 Wh`, `1.2 kWh`."""
    return _two_figures(value, "Wh", "kWh")


def grams(value: float | None) -> str:
    """A mass in two figures: `0.02 g`, `3.1 g`, `1.2 kg`."""
    return _two_figures(value, "g", "kg")


def _two_figures(value: float | None, unit: str, thousands: str) -> str:
    if value is None:
        return "–"
    if value >= 1000:
        value, unit = value / 1000, thousands
    rounded = float(f"{value:.2g}")
    if rounded < 1e-4:
        return f"0 {unit}" if not value else f"< 0.0001 {unit}"
    decimals = max(0, 1 - _magnitude(rounded))
    return f"{rounded:.{decimals}f} {unit}"


def _magnitude(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
