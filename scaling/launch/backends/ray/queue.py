"""The actor that holds the queue of one study: it gives each run its supervisor, so many at a time as the study allows.

A supervisor is a process of the cluster, so a study of a thousand runs must not have a thousand of them. The queue
lives in the cluster, so that the launcher may leave; its runs are in the batches on the disk, so that Ray may start it
again on another node. It goes when all of its runs have ended.
"""

import hashlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.launch.backends.base import Look
from scaling.launch.backends.ray.order import Batch, Order, load_batches
from scaling.launch.backends.ray.supervisor import Supervisor, record_failure
from scaling.records.attempts.causes import Cause
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.run_dir import StudyDir

logger = logging.getLogger(__name__)

NAMESPACE = "scaling"

MAX_WAITING = 2
"""Supervisors that wait for resources at a time; the next run's place is asked for while others train."""

TURN_SECONDS = 0.5

ANSWER_SECONDS = 10.0
"""How long a supervisor may take to answer before it is taken for silent."""

LINGER_SECONDS = 30.0
"""How long the queue waits for a launcher to see the last end before it goes."""

NOT_SEEN = Look("queued")

MAX_CREATIONS = 3
"""How often a supervisor that cannot be created is created again."""


def name_of(path: Path) -> str:
    """Name of the actor for a study's or a run's folder: readable, and another one for every folder."""
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


@dataclass
class _Run:
    order: Order
    look: Look = NOT_SEEN
    supervisor: Any = None
    answer: Any = None
    """The look that was asked for and has not come yet."""
    asked: float = 0.0
    creations: int = 0

    @property
    def has_ended(self) -> bool:
        return self.look.phase == "ended"


class StudyQueue:
    """The runs of one study; made an actor by `backend`."""

    def __init__(self, study_dir: str, since: float) -> None:
        """`since` is the time of the first batch; older ones belong to a cluster that is gone."""
        self._study_dir, self._since = Path(study_dir), since
        self._runs: dict[str, _Run] = {}
        self._batches: dict[str, Batch] = {}
        self._cap: int | None = None
        self._is_leaving = self._is_closed = False
        self._is_told = False
        """Whether a launcher has seen that everything has ended."""
        self._idle_since: float | None = None
        self._lock = threading.Lock()
        self.submit()
        threading.Thread(target=self._go, name="queue", daemon=True).start()

    def submit(self) -> bool:
        """Take in the batches on the disk; False when this queue is about to go, and another one has to be made."""
        with self._lock:
            if self._is_closed:
                return False
            for batch in load_batches(self._study_dir, self._since):
                if batch.nonce not in self._batches:
                    self._batches[batch.nonce], self._is_told = batch, False
                    self._cap = batch.cap
                    for order in batch.orders:
                        known = self._runs.get(order.run_dir)
                        if known is None or known.has_ended:
                            self._runs[order.run_dir] = _Run(order)
            return True

    def looks(self) -> dict[str, Look]:
        """Where each run stands, by its directory."""
        with self._lock:
            self._is_told = not self._batches
            return {run_dir: run.look for run_dir, run in self._runs.items()}

    def leave(self) -> None:
        """Let all runs save a checkpoint and start none: the launcher leaves with the cluster."""
        self._is_leaving = True

    def _go(self) -> None:
        while not self._is_closed:
            try:
                self._turn()
            except Exception:
                logger.exception("the queue failed in one turn; it continues with the next")
            time.sleep(TURN_SECONDS)
        _remove_itself(name_of(self._study_dir))

    def _turn(self) -> None:
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            if run.supervisor is not None:
                self._look_at(run)
        self._start_some(runs)
        with self._lock:
            self._forget_ended_batches()
            if self._batches:
                self._idle_since = None
            elif self._idle_since is None:
                self._idle_since = time.monotonic()
            else:
                self._is_closed = self._is_told or time.monotonic() - self._idle_since > LINGER_SECONDS

    def _start_some(self, runs: list[_Run]) -> None:
        """Supervisors for the next runs, within the cap and not many more than have found resources."""
        alive = [run for run in runs if run.supervisor is not None]
        num_waiting = sum(run.look.phase == "queued" for run in alive)
        num_alive = len(alive)
        for run in runs:
            if run.supervisor is not None or run.has_ended:
                continue
            stop = requested_stop(Path(run.order.run_dir))
            if stop or self._is_leaving:
                run.look = Look("ended", cause=stop or Cause.PREEMPTED)
            elif num_waiting < MAX_WAITING and (self._cap is None or num_alive < self._cap):
                self._create(run)
                num_waiting, num_alive = num_waiting + 1, num_alive + 1

    def _create(self, run: _Run) -> None:
        """Create the run's supervisor, or find the one that an earlier life of this queue has created."""
        import ray

        run.creations += 1
        actor: Any = ray.remote(Supervisor)
        run.supervisor = actor.options(
            name=name_of(Path(run.order.run_dir)),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
        ).remote(run.order)

    def _look_at(self, run: _Run) -> None:
        """Take in the supervisor's answer, if it has come, and ask again."""
        import ray

        if self._is_leaving:
            run.supervisor.leave.remote()
        if run.answer is None:
            run.answer, run.asked = run.supervisor.look.remote(), time.monotonic()
        ready, _ = ray.wait([run.answer], timeout=0.1)
        if not ready:
            if time.monotonic() - run.asked > ANSWER_SECONDS and run.look.phase == "running":
                run.look = Look("queued", reason="lost its supervisor, whose node may be gone; it is started again")
            return
        answer, run.answer = run.answer, None
        try:
            look = ray.get(answer)
        except ray.exceptions.ActorUnavailableError:
            return  # Ray starts it again.
        except ray.exceptions.RayError as error:
            self._replace(run, str(error).strip().splitlines()[-1])
            return
        run.creations = 0
        run.look = look
        if run.has_ended:
            # One that stayed would be started again, with its run, when its node is lost.
            ray.kill(run.supervisor)
            run.supervisor = None

    def _replace(self, run: _Run, told: str) -> None:
        """A supervisor that Ray has given up: another one, unless that was tried often enough."""
        run.supervisor = None
        run.look = Look("queued", reason=f"its supervisor could not live ({told}); it is started again")
        if run.creations >= MAX_CREATIONS:
            reason = f"Ray could not start its supervisor: {told}"
            record_failure(Path(run.order.run_dir), reason)
            run.look = Look("ended", cause=Cause.MACHINE_TROUBLE, reason=reason)

    def _forget_ended_batches(self) -> None:
        for nonce, batch in list(self._batches.items()):
            if all(self._runs[order.run_dir].has_ended for order in batch.orders):
                StudyDir(self._study_dir).job(nonce).unlink(missing_ok=True)
                del self._batches[nonce]


def _remove_itself(name: str) -> None:
    """Ray would start an actor again whose process just ended."""
    import ray

    ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    os._exit(0)
