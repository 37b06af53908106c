"""Pool: the driver's side of several workers; hands out keys, collects results, replaces the dead.

It knows nothing of what the workers serve: a benchmark drives it with an object that only sleeps.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.notices import warn
from diffcls.support.workers.assignment import MAX_DEATHS, Assignment
from diffcls.support.workers.channel import Reply
from diffcls.support.workers.cluster import Cluster
from diffcls.support.workers.host import Host
from diffcls.support.workers.members import Death, GivenUp, Make, Worker, WorkersDied, cause_of

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""Time without any scheduled worker after which the run says what it waits for."""
MAX_GIVEN_UP = 4
"""Keys given up without any result between them after which the run ends: it is not the keys."""


class Pool:
    """Workers on a cluster, which are started when they are first needed, and stay until `close`.

    More workers may be asked for than fit: the others wait for nodes that join later.

    Args:
        cluster: where they run.
        workers: their number.
        needs_gpu: whether each has a GPU, or a share of the local ones.
        environment: environment variables of the workers.
    """

    def __init__(
        self,
        cluster: Cluster,
        workers: int,
        needs_gpu: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        import ray

        self._ray = ray
        options: dict[str, Any] = {
            **cluster.resources(workers, needs_gpu),
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": environment or {}},
        }
        self._actor_class = ray.remote(Host).options(**options)
        self._seen: set[str] = set()
        self._barren_deaths = self._barren_keys = 0  # since the last result
        self._began = time.monotonic()
        self._has_warned = False
        self._needs = "GPU" if needs_gpu else "CPU"
        self._count, self._is_local = workers, cluster.is_local
        self._shared: dict[str, Any] = {}
        self._workers: list[Worker] = []
        self._smallest: tuple[Make, int] | None = None

    def start(self) -> None:
        """Start the workers, if there are none."""
        if not self._workers:
            self._began = time.monotonic()
            self._workers = [self._started(number) for number in range(1, self._count + 1)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the scheduled workers."""
        return [worker.place[0] for worker in self._workers if worker.place]

    def share(self, paths: Iterable[Path]) -> None:
        """Give files of fits to workers of other machines, which load something from now on."""
        if not self._is_local:
            for path in paths:
                if path.name not in self._shared:
                    self._shared[path.name] = self._ray.put(path.read_bytes())

    def call(self, make: Make, name: str, *arguments: Any) -> Any:
        """Call a method of the served object in one of the workers, and wait for its value.

        Raises:
            Exception: whatever the method, or `make`, raises.
            WorkersDied: if the workers die again and again.
        """
        self.start()
        chosen: Worker | None = None
        while True:
            if chosen is None:
                chosen = min(
                    (w for w in self._workers if w.place and w.is_free),
                    key=lambda w: (w.made != make, w.number),
                    default=None,
                )
            if chosen is not None and chosen.is_free:
                if chosen.made != make:
                    self._ask(chosen, "load", make, dict(self._shared))
                else:
                    self._ask(chosen, "call", name, *arguments)
            for worker, value in self._answers():
                if isinstance(value, Death):
                    self._replace(worker, value)
                    chosen = None if worker is chosen else chosen
                elif worker is chosen and worker.step == "call":
                    self._barren_deaths = self._barren_keys = 0
                    return value

    def stream(self, make: Make, keys: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """(key, result) of each key, in order of completion.

        The result of a key with which several workers died is `GivenUp`. An abandoned iterator
        ends the workers.

        Args:
            make: makes the served object in each worker.
            keys: the keys, each once.

        Raises:
            Exception: whatever a worker raises.
            WorkersDied: if the workers die again and again without any result.
        """
        self.start()
        assignment = Assignment(keys)
        try:
            while assignment:
                for worker in self._workers:
                    if worker.is_free and worker.place:
                        self._feed(worker, make, assignment)
                for worker, value in self._answers():
                    if isinstance(value, Death):
                        yield from self._lost(worker, value, assignment)
                    elif isinstance(value, Reply):
                        worker.reply = value
                        if value.results:
                            self._barren_deaths = self._barren_keys = 0
                        for key, result in value.results:
                            assignment.done(worker.number, key)
                            yield key, result
        finally:
            if assignment:  # what is in flight is wanted no more
                self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            self._end(worker)
        self._workers = []

    def _feed(self, worker: Worker, make: Make, assignment: Assignment) -> None:
        """Give a free worker something to do, if there is anything."""
        if worker.made != make:
            worker.reply = None
            self._ask(worker, "load", make, dict(self._shared))
            return
        reply = worker.reply
        scheduled = sum(one.place is not None for one in self._workers)
        room = reply.room if reply else 1
        keys, last = assignment.take(worker.number, room, scheduled)
        if keys or assignment.in_flight(worker.number):
            self._ask(worker, "exchange", keys, last)

    def _lost(
        self, worker: Worker, death: Death, assignment: Assignment
    ) -> Iterator[tuple[int, Any]]:
        in_flight = assignment.in_flight(worker.number)
        for key in assignment.died(worker.number, counted=not death.is_preempted):
            self._barren_keys += 1
            yield key, GivenUp()
        self._replace(worker, death, in_flight)

    def _replace(self, worker: Worker, death: Death, in_flight: int = 0) -> None:
        """Start a new worker in the place of a dead one."""
        self._barren_deaths += not death.is_preempted
        where = "" if worker.place is None else f" (process {worker.place[0]} on {worker.place[1]})"
        deaths, keys = self._barren_deaths, self._barren_keys
        unexplained = deaths - MAX_DEATHS * keys  # a key that is given up cannot kill again
        if unexplained > 2 * len(self._workers) + 2 or keys >= MAX_GIVEN_UP:
            self.close()  # what is asked next gets new workers
            self._barren_deaths = self._barren_keys = 0
            reason = f" ({death.reason})" if death.reason else ""
            doing = "loaded the model" if worker.step == "load" else "worked"
            raise WorkersDied(
                f"{deaths} workers died one after another while they {doing}{reason}",
                todo="look for a lack of memory or a crash; rerun the same command to resume",
            )
        images = f"; its {in_flight} images go to others" if in_flight else ""
        warn(f"worker {worker.number}{where} died and is replaced{images}")
        self._end(worker)
        self._workers[worker.number - 1] = self._started(worker.number)

    def _started(self, number: int) -> Worker:
        worker = Worker(number, self._actor_class.remote(os.getcwd()))
        self._ask(worker, "place")
        return worker

    def _end(self, worker: Worker) -> None:
        if self._ray.is_initialized():
            self._ray.kill(worker.actor)

    def _ask(self, worker: Worker, step: str, *arguments: Any) -> None:
        worker.step = step
        worker.call = getattr(worker.actor, step).remote(*arguments)
        if step == "load":
            worker.made = arguments[0]

    def _answers(self) -> list[tuple[Worker, Any]]:
        """The workers whose call has ended, with its value or their death."""
        calls = {worker.call: worker for worker in self._workers if worker.call is not None}
        ready, others = self._ray.wait(list(calls), num_returns=1, timeout=POLL_SECONDS)
        if ready and others:
            ready += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        self._warn_of_waiting()
        return [(calls[one], self._answer(calls[one])) for one in ready]

    def _answer(self, worker: Worker) -> Any:
        from ray import exceptions

        call, worker.call = worker.call, None
        try:
            value = self._ray.get(call)
        except exceptions.RayTaskError as error:
            if worker.step == "load":
                worker.made = None
            raise cause_of(error) from None
        except exceptions.RayError as error:
            return Death.of(error)
        if worker.step == "place":
            worker.place = value
        elif worker.step == "load":
            self._show(value)
        elif worker.step == "call":
            value, notices, rows = value
            self._show(notices)
            self._note_batch(worker, rows)
        else:
            self._show(value.notices)
            self._note_batch(worker, value.batch_size)
        return value

    def smallest_batch(self, make: Make) -> int | None:
        """The smallest batch size that workers reported since they last made this; None: none."""
        return self._smallest[1] if self._smallest and self._smallest[0] == make else None

    def _note_batch(self, worker: Worker, rows: int | None) -> None:
        if rows is not None and worker.made is not None:
            before = self.smallest_batch(worker.made)
            self._smallest = worker.made, rows if before is None else min(before, rows)

    def _show(self, notices: Sequence[str]) -> None:
        """Print lines of a worker, each once, however many workers have it to say."""
        for line in notices:
            if line not in self._seen:
                self._seen.add(line)
                print(line, file=sys.stderr)

    def _warn_of_waiting(self) -> None:
        if self._is_local or self._has_warned or any(worker.place for worker in self._workers):
            return
        if time.monotonic() - self._began > PATIENCE_SECONDS:
            self._has_warned = True
            warn(f"waiting for a node with a free {self._needs}; see `ray status`")
