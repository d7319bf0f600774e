"""What a process that trains has of this machine: its devices, its threads and the memory that it holds."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from labcore.configs.base import ConfigError

# glibc's numbers for mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 1 << 30


def pick_device(name: str) -> str:
    """The device of this name; `auto` is the first GPU, or the CPU where there is none.

    Raises ConfigError for a device that is not here.
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    here = ["cpu", *_gpus()]
    if name not in here:
        raise ConfigError(f"device is {name!r}; here there are: auto, {', '.join(here)}.")
    return name


def devices() -> dict[str, str]:
    """The devices that are here, GPUs first, with what each is called: `cuda:0` → `NVIDIA H100 80GB HBM3`."""
    return {name: device_name(torch.device(name)) for name in [*_gpus(), "cpu"]}


def device_name(device: torch.device) -> str:
    """The name by which people know the device: that of the graphics card, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError), Path("/proc/cpuinfo").open() as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "CPU"


def cores() -> int:
    """How many physical cores this machine has."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def asked_threads() -> int | None:
    """The number of threads that the environment's `REUSE_LAB_THREADS` asks for; None where it says nothing.

    Raises ConfigError where the variable holds anything but a whole number from 1 to 1024.
    """
    text = os.environ.get("REUSE_LAB_THREADS")
    if text is not None and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise ConfigError(f"REUSE_LAB_THREADS is {text!r}; it must be a whole number from 1 to 1024.")
    return int(text) if text else None


def prepare(threads: int | None = None) -> int:
    """Make this process ready to train, and return the number of torch's threads, on which results depend.

    It is what the environment's `REUSE_LAB_THREADS` says, or else `threads`, or else the number of physical cores.
    Raises ConfigError where the variable holds anything but a whole number from 1 to 1024.
    """
    threads = asked_threads() or threads or cores()
    torch.set_num_threads(threads)
    # On a GPU, too, the same run must give the same bits, and float32 must be what its name says: by itself cuDNN cuts
    # a convolution's inputs to 10 bits (TF32), and a Fisher diagonal was then off by some per cent.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    _keep_freed_memory()
    return threads


def _keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, so that it can use it again.

    A batch's activations are some megabytes each. The C library fetches such pieces from the system and hands them back
    each time, and the system zeroes every page on its way. That was a third of the time of a pass through
    EfficientNet-Lite0.
    """
    with suppress(OSError, AttributeError):  # not every C library has mallopt
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_KEPT)


class PeakMemory:
    """The most bytes that a run needed, over what this process held before the run began.

    On a GPU these are the tensors there, by torch's own count; on the CPU it is resident memory, as each `sample` finds
    it. A run that goes on after a break tells in `known` what it had needed before. `reused` is what the stages needed
    that the run took over from the cache, when they were trained.
    """

    def __init__(self, device: torch.device) -> None:
        _give_back_memory()
        self.known = self.reused = 0
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._gpu = device if device.type == "cuda" else None
        if self._gpu:
            torch.cuda.init()  # type: ignore[no-untyped-call]  # before it, there is no count to start anew
            torch.cuda.reset_peak_memory_stats(self._gpu)

    def sample(self) -> None:
        """Look how much is resident now. On a GPU nothing is to be done: torch keeps count of its peak by itself."""
        if not self._gpu:
            self.known = max(self.known, self._process.memory_info().rss - self._before)

    @property
    def peak(self) -> int:
        """What was needed by the work that this run did itself, as far as it was seen."""
        return max(self.known, torch.cuda.max_memory_allocated(self._gpu) if self._gpu else 0)

    @property
    def peak_of_all_stages(self) -> int:
        """The same, with the stages that the run took over."""
        return max(self.peak, self.reused)


def _give_back_memory() -> None:
    """Hand freed memory back to the system. Otherwise the next run in a warm worker would seem to need none."""
    torch.cuda.empty_cache()  # does nothing where no GPU is in use
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _gpus() -> list[str]:
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
