"""Trainings under way, kept in one file: a process that is stopped or killed loses minutes of them, not hours."""

import pickle
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from sweep import paths

if TYPE_CHECKING:
    from sweep.train.loop import Curves

FORMAT = "1"  # of the file; raise it when a change of the code reads or writes another state
State = dict[str, Any]  # tensors and plain values: what torch.load() reads without running code


class Training(Protocol):
    """What goes on from its state() as if nothing had been in between.

    whole: whether it has a state now; it has none within a step.
    over: whether nothing is left to train.
    """

    whole: bool

    @property
    def over(self) -> bool: ...

    def state(self) -> State:
        """Return all that changes while it trains; tensors are not copied."""

    def load(self, state: State) -> bool:
        """Take the place of the training that this is the state of; return False, and change nothing, if it cannot."""


class Checkpoint:
    """What the trainings of one job have come to.

    The file is <path>.<crc32>.pt: whole or absent, and its name says what its bytes must sum up to. Whoever has a
    checkpoint holds a lock on what is trained.

    of: what must be the same for the process that goes on, such as the job and the versions of libraries.
    minutes: between two writings, at least; then the end of the next batch is waited for, with 0 that of the epoch.
        None: it is never written.
    """

    def __init__(self, path: Path, of: Mapping[str, str], minutes: float | None) -> None:
        self.path, self.of, self.minutes = path, {"format": FORMAT, **of}, minutes
        self._trainings: dict[str, Training] = {}
        self._found: dict[str, State] | None = None
        self._written = time.monotonic()

    def begin(self, key: str, training: Training) -> None:
        """Take this training into what is written, after it has gone on from what was written of its key."""
        if self._found is None:
            self._found = self._read()
        state = self._found.pop(key, None)
        if state is not None and not training.load(state):
            self._say("is of other frozen weights; training starts anew")
        self._trainings[key] = training

    def offer(self, epoch_over: bool) -> None:
        """Write if it is time for that."""
        minutes = self.minutes
        if minutes is None or not (epoch_over or minutes > 0):
            return
        if time.monotonic() - self._written >= 60 * minutes:
            self.write()

    def write(self) -> None:
        """Write what all trainings have come to; a disk that takes nothing stops none of them."""
        if self.minutes is None:
            return
        trainings = {key: training.state() for key, training in self._trainings.items()}
        try:
            old = self._files()
            with paths.replacing(self.path) as temporary:
                torch.save({"of": self.of, "trainings": {**(self._found or {}), **trainings}}, temporary)
                final = self.path.with_name(f"{self.path.name}.{checksum(temporary):08x}.pt")
                temporary.replace(final)
            for file in set(old) - {final}:
                file.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            self._say(f"cannot be written ({' '.join(str(error).split())}); training goes on without")
            self.minutes = None
        self._written = time.monotonic()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write what is trained where this block is broken off between two trainings; within one, its slot writes."""
        try:
            yield
        except KeyboardInterrupt:
            if self._trainings and all(training.over for training in self._trainings.values()):
                self.write()
            raise

    def remove(self) -> None:
        """Forget everything, and remove the file: what was trained is recorded."""
        self._trainings, self._found = {}, {}
        for file in self._files():
            file.unlink(missing_ok=True)

    def _read(self) -> dict[str, State]:
        """Return what the newest file holds that can be used, by key; say why others cannot, and remove them."""
        for file in sorted(self._files(), key=lambda each: each.stat().st_mtime, reverse=True):
            trainings = self._content(file)
            if trainings is not None:
                return trainings
            file.unlink(missing_ok=True)
        return {}

    def _content(self, file: Path) -> dict[str, State] | None:
        try:
            if f"{checksum(file):08x}" != file.name.split(".")[-2]:
                raise ValueError("its checksum does not fit")
            content = torch.load(file, map_location="cpu", weights_only=True)
            of, trainings = dict(content["of"]), dict(content["trainings"])
        except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            self._say(f"is damaged ({str(error).splitlines()[0]}); training starts anew")
            return None
        for name in [*self.of, *of]:
            if of.get(name) != self.of.get(name):
                self._say(f"is of {name} {of.get(name)}, not {self.of.get(name)}; training starts anew")
                return None
        return trainings

    def _files(self) -> list[Path]:
        return [*self.path.parent.glob(f"{self.path.name}.????????.pt")]

    def _say(self, what: str) -> None:
        print(f"warning: {self.path}: the checkpoint {what}", file=sys.stderr, flush=True)


class Slot:
    """One training's place in a checkpoint, and whoever watches its epochs; there may be no checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        key: str = "",
        on_epoch: Callable[["Curves"], None] = lambda curves: None,
    ) -> None:
        self.checkpoint, self.key, self.on_epoch = checkpoint, key, on_epoch

    @contextmanager
    def kept(self, training: Training) -> Iterator[None]:
        """Let the training go on from where it was, if it was; keep it where this block is broken off."""
        if self.checkpoint is None:
            yield
            return
        self.checkpoint.begin(self.key, training)
        try:
            yield
        except KeyboardInterrupt:
            if training.whole:
                self.checkpoint.write()
            raise

    def after_batch(self) -> None:
        if self.checkpoint:
            self.checkpoint.offer(epoch_over=False)

    def after_epoch(self) -> None:
        if self.checkpoint:
            self.checkpoint.offer(epoch_over=True)


NOWHERE = Slot()


def random_state(device: torch.device) -> Tensor:
    """Return the state of torch's own generator for this device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Set torch's own generator for this device to a state that random_state() returned."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def checksum(path: Path) -> int:
    """Return the crc32 of a file."""
    total = 0
    with path.open("rb") as file:
        while part := file.read(1 << 24):
            total = zlib.crc32(part, total)
    return total
