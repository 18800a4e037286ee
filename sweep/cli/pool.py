"""Worker processes of one machine. Each trains one point at a time; one that dies takes no other point with it."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, NamedTuple

from sweep import interrupt
from sweep.cli.collect import Task, train
from sweep.plan.point import Point
from sweep.runs.processes import CONTEXT, belong_to_parent, how_it_ended
from sweep.runs.tick import Tick

if TYPE_CHECKING:
    from sweep.cli.job import Job

_GRACE = 5.0  # seconds that a worker has to end
_LAST = 30.0  # that it has to end the batch under way and keep what is trained; a second Ctrl-C ends it at once


class Pool:
    """As many workers as there are environments: what each has beside this process's own variables."""

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self.workers = [_Worker(environment) for environment in environments]

    def run(self, points: Sequence[Point], job: "Job") -> None:
        """Train these points; no worker is left behind, whatever happens.

        job: asked whether a point may start, and told what came of it.
        """
        waiting = list(points)
        try:
            while True:
                for worker in self.workers:
                    while waiting and worker.point is None:
                        point = self._next(waiting, worker)
                        waiting.remove(point)
                        if job.begin(point):
                            worker.give(job.task(point))
                busy = [worker for worker in self.workers if worker.point]
                if not busy:
                    return
                with interrupt.waiting():
                    ready = wait([handle for worker in busy for handle in worker.handles()])
                for worker in busy:
                    if not set(ready).isdisjoint(worker.handles()):
                        worker.take(job)
        finally:
            for worker in self.workers:
                worker.stop()
            for worker in self.workers:
                worker.close()

    def _next(self, waiting: Sequence[Point], worker: "_Worker") -> Point:
        """Return a point of the network that the worker knows, else of one that no other worker is busy with."""
        busy = {other.point.facts.network for other in self.workers if other.point}
        same = [point for point in waiting if point.facts.network == worker.network]
        free = [point for point in waiting if point.facts.network not in busy]
        return (same or free or waiting)[0]


class _Running(NamedTuple):
    """connection: takes points and gives what came of them."""

    process: BaseProcess
    connection: Connection


class _Worker:
    """A process and the point that it trains; started with its first point, and again after it died."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.running: _Running | None = None
        self.point: Point | None = None
        self.network: tuple[object, ...] | None = None
        self.since = 0.0

    def handles(self) -> list[Connection | int]:
        """Return what becomes ready when the point is done or the process is gone; none if there is no point."""
        return [self.running.connection, self.running.process.sentinel] if self.running and self.point else []

    def give(self, task: Task) -> None:
        self.running = self.running or self._start()
        self.point, self.network, self.since = task.point, task.point.facts.network, time.monotonic()
        with suppress(OSError):  # it has died while it was idle; take() will find that
            self.running.connection.send(task)

    def take(self, job: "Job") -> None:
        """Tell the job how far the point is, what came of it, or that the process is gone."""
        running, point = self.running, self.point
        assert running, "it was given a point"
        assert point, "and it is taken once"
        try:
            said = running.connection.recv()
        except (EOFError, OSError):
            self.point = None
            running.process.join()
            self.running = self.network = None
            how = f"its process {how_it_ended(running.process.exitcode)}"
            job.lost(point, how, time.monotonic() - self.since)
        else:
            if isinstance(said, Tick):
                job.hear(said)
                return
            self.point = None
            job.end(point, said)

    def stop(self) -> None:
        """Let the process end; if it is training, after the batch under way, of which it keeps a checkpoint."""
        if self.running is None:
            return
        if self.point is None:
            with suppress(OSError):
                self.running.connection.send(None)
        else:
            self.running.process.terminate()

    def close(self) -> None:
        """End the process, which was told to stop."""
        if self.running is None:
            return
        process = self.running.process
        process.join(_LAST if self.point else _GRACE)
        process.kill()
        process.join()

    def _start(self) -> _Running:
        connection, theirs = CONTEXT.Pipe()
        # No daemon, which may have no processes of its own, as devices=2 needs; close() ends it all the same.
        process = CONTEXT.Process(target=_serve, args=(theirs,), daemon=False)
        with _environment(self.environment):
            process.start()
        theirs.close()  # so that it reads as closed when the worker is gone
        return _Running(process, connection)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these for what is started in this block: libraries read them when they are imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection) -> None:
    """Train points as they come, until told to end, or until the process that gives them is gone."""
    belong_to_parent()
    interrupt.install(led=True)  # SIGTERM, which is left
    try:
        from sweep.runs.session import Session  # noqa: PLC0415  torch reads the environment when it is imported

        session = Session(connection.send)
        while (task := _received(connection)) is not None:
            connection.send(train(task, session))
    except KeyboardInterrupt:  # what was trained is kept: now end as the signal ends a process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _received(connection: Connection) -> Task | None:
    with interrupt.waiting():
        task: Task | None = connection.recv()
    return task
