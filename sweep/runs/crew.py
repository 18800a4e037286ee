"""Processes that train a job's members together with this one, each on a GPU of its own.

This process is the first of them, and alone reads and writes records and checkpoints, trains sources and fills the
cache. The others, helpers, take from the cache what it has put there, and do nothing but their part of every batch.
"""

import dataclasses
import io
import os
import shutil
import socket
import tempfile
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch
from torch import distributed

from sweep import interrupt
from sweep.errors import UserError, described
from sweep.models.frozen import fingerprint
from sweep.plan.point import Point
from sweep.runs import feed, helper, machine, members
from sweep.runs.processes import CONTEXT, how_it_ended
from sweep.runs.session import Session
from sweep.train.resume import Training
from sweep.train.team import ALONE, Joined

PATIENCE = timedelta(minutes=10)  # of a process that waits for another one's part of a batch
_GRACE = 2.0  # seconds in which a helper whose connection is lost is seen to have ended


@dataclass(frozen=True)
class Work:
    """What helpers need to know of a job. The rest: see feed.feeder()."""

    point: Point
    seeds: Sequence[int]
    depths: Collection[int]

    def on(self, kind: str, rank: int) -> "Work":
        """Return the work as it is done by the process of this rank, on a device of this kind."""
        device = f"cuda:{rank}" if kind == "cuda" else "cpu"
        config = dataclasses.replace(self.point.config, device=device)
        return dataclasses.replace(self, point=dataclasses.replace(self.point, config=config))


@contextmanager
def called(session: Session, point: Point, seeds: Sequence[int], depths: Collection[int]) -> Iterator[None]:
    """Have this session's trainings in this block done by as many processes as devices= says; none is left behind."""
    if point.config.devices == 1:
        yield
        return
    crew = Crew(session.device(point), Work(point, tuple(seeds), frozenset(depths)))
    session.team = crew
    try:
        yield
    except Exception as error:
        crew.explain(error)
        raise
    finally:
        session.team = ALONE
        crew.close()


class Helper(NamedTuple):
    """connection: takes members and states, and gives None as it is ready, or what went wrong."""

    process: BaseProcess
    connection: Connection


class Crew(Joined):
    """The first process's view. Helpers start with the first member that is trained: there may be only heads."""

    def __init__(self, device: torch.device, work: Work) -> None:
        super().__init__(0, work.point.config.devices)
        self.device, self.work = device, work
        self.helpers: list[Helper] = []
        self.folder: Path | None = None
        self.joined = False

    def call(self, seed: int, lr: float) -> None:
        if not self.helpers:
            self._start()
        for each in self.helpers:
            each.connection.send((seed, lr))

    def begin(self, training: Training) -> None:
        written = io.BytesIO()
        torch.save(training.state(), written)
        for each in self.helpers:
            each.connection.send_bytes(written.getbuffer())
        self._hear()

    def explain(self, error: Exception) -> None:
        """Raise what the helper says that has ended, in place of what this process makes of its silence."""
        sentinels = {each.process.sentinel: rank for rank, each in enumerate(self.helpers, 1)}
        for sentinel in wait(list(sentinels), _GRACE):
            rank = sentinels[sentinel]  # type: ignore[index]
            raise self._end_of(rank) from error

    def close(self) -> None:
        """End the helpers, who keep nothing that is not in this process, too."""
        for process, connection in self.helpers:
            process.kill()
            process.join()
            connection.close()
        if self.joined:
            distributed.destroy_process_group()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        if distributed.is_initialized():
            raise UserError(f"devices={self.size}: this process uses torch.distributed itself; use devices=1")
        self.folder = Path(tempfile.mkdtemp(prefix="sweep-devices-"))
        file, kind = str(self.folder / "store"), self.device.type
        for rank in range(1, self.size):
            connection, theirs = CONTEXT.Pipe()
            arguments = (theirs, file, rank, self.work.on(kind, rank))
            process = CONTEXT.Process(target=helper.serve, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that it reads as closed when the helper is gone
            self.helpers.append(Helper(process, connection))
        self._hear()
        join(file, 0, self.size, self.device)
        self.joined = True

    def _hear(self) -> None:
        """Wait until all helpers are ready; raise RuntimeError if one never will be."""
        for rank, (process, connection) in enumerate(self.helpers, 1):
            with interrupt.waiting():
                wait([connection, process.sentinel])
            try:
                failed = connection.poll() is False or connection.recv() is not None
            except (EOFError, OSError):
                failed = True
            if failed:
                raise self._end_of(rank)

    def _end_of(self, rank: int) -> RuntimeError:
        process, connection = self.helpers[rank - 1]
        with suppress(EOFError, OSError):
            while connection.poll():
                if said := connection.recv():
                    line, details = said
                    error = RuntimeError(f"process {rank + 1} of {self.size}: {line}")
                    error.add_note(details)
                    return error
        process.join(_GRACE)
        return RuntimeError(f"process {rank + 1} of {self.size} {how_it_ended(process.exitcode)}")


class _Follower(Joined):
    """A helper's view."""

    def __init__(self, rank: int, size: int, connection: Connection) -> None:
        super().__init__(rank, size)
        self.connection = connection

    def begin(self, training: Training) -> None:
        state = torch.load(io.BytesIO(self.connection.recv_bytes()), map_location="cpu", weights_only=True)
        if not training.load(state):
            raise RuntimeError("its frozen weights are not those of the first process")
        if not training.over:  # images of one batch are dropped out of independently
            torch.manual_seed((int(fingerprint([state["random"]]), 16) + self.rank) % 2**63)
        self.connection.send(None)


def help_with(connection: Connection, file: str, rank: int, work: Work) -> None:
    """Train one member after the other as they are named, together with the processes that meet in this file."""
    config = work.point.config
    try:
        session = Session()
        device = session.device(work.point)
        connection.send(None)
        join(file, rank, config.devices, device)
        session.team = _Follower(rank, config.devices, connection)
        machine.set_precision(config.precision)
        feeder = feed.feeder(session, work.point, work.seeds, work.depths)
        known, feeds = None, None
        while True:
            seed, lr = connection.recv()
            if seed != known or feeds is None:
                known, feeds = seed, feeder.both(seed)
            members.train_member(session, work.point, (seed, lr), feeds)
    except Exception as error:
        with suppress(OSError):
            connection.send((described(error), traceback.format_exc()))


def join(file: str, rank: int, size: int, device: torch.device) -> None:
    """Meet the other processes, all on this machine, in this file."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    inside = {"lo", "lo0"} & {name for _, name in socket.if_nameindex()}
    if inside:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", inside.pop())  # nobody else on the network is to reach it
    backend = "nccl" if device.type == "cuda" else "gloo"
    where = Path(file).as_uri()
    distributed.init_process_group(backend, init_method=where, rank=rank, world_size=size, timeout=PATIENCE)
