"""What the machine is and has: device, memory, versions, commit."""

import ctypes
import functools
import gc
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sweep import __version__
from sweep.config import Precision
from sweep.cores import usable
from sweep.errors import UserError

FROM_START = torch.get_num_threads()  # what OMP_NUM_THREADS says where it is set, as in workers of a launcher


def device(name: str, threads: int | None = None, processes: int = 1) -> torch.device:
    """Return the device of this name, set so that the same command gives the same numbers.

    name: auto, cpu, cuda or cuda:N. raises: UserError if torch does not see it.
    threads: that torch computes with on a CPU, if there are as many cores for this process; None for all of these.
    processes: that share the threads, this one being one of them.
    """
    cores = min(FROM_START, usable())  # more than there are would wait for each other
    torch.set_num_threads(max(1, min(threads or cores, cores) // processes))
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = name = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or int(number or 0) >= count:
            raise UserError(f"device={name}: torch sees {count} CUDA devices here; use device=auto or device=cpu")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


def check(name: str, precision: Precision, devices: int = 1) -> None:
    """Raise UserError if this device is not here, or not so many of them, or cannot compute so."""
    kind = device(name).type
    if kind == "cuda" and torch.cuda.device_count() < devices:
        count = torch.cuda.device_count()
        raise UserError(f"devices={devices}: torch sees {count} CUDA devices here; use devices={count} or fewer")
    if kind != "cuda" and precision is Precision.tf32:
        raise UserError("precision=tf32: only CUDA devices have it, and this job runs on a CPU; use fp32 or bf16")


def set_precision(precision: Precision) -> None:
    """Let CUDA round the inputs of products to TF32, or forbid it: torch by itself allows it for convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision is Precision.tf32


def device_name(where: torch.device, count: int = 1) -> str:
    """Return what the device is called in records. count: of such devices that have computed together."""
    times = f"{count} x " if count > 1 else ""
    if where.type == "cuda":
        return times + torch.cuda.get_device_name(where)
    return f"{times}cpu, {torch.get_num_threads()} threads ({platform.machine()})"


def reset_peak_memory(where: torch.device) -> None:
    """Begin to count a CUDA device's memory anew; a process has one peak, from its start."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)


def peak_memory(where: torch.device) -> int | None:
    """Return bytes: of the device's allocator on CUDA, of the process on a CPU; None where that is not known."""
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that results may depend on, by name."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {"freeze-sweep": __version__, "python": platform.python_version(), **found}


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, with "+" if it was changed; None if installed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() or None


@contextmanager
def tidied() -> Iterator[None]:
    """Free, after this block, what it made and dropped: networks refer to themselves, and are large and few objects.

    Only what the block made is looked at, which takes milliseconds; all objects would take 0.3 s.
    """
    alone = gc.get_freeze_count() == 0  # else somebody else has set objects aside
    if alone:
        gc.freeze()
    try:
        yield
    finally:
        if alone:
            gc.collect()
            gc.unfreeze()
        give_back()


def give_back() -> None:
    """Give memory that is free back to the system: glibc keeps it, in more and more pieces over many points."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
