"""The actor that looks after one run: it starts the run's processes, and starts them again as the one policy says.

It takes no resources itself and lives until the run has ended, whatever becomes of the launcher. When its own node is
lost Ray starts it again elsewhere; then its processes, which do not outlive it, save and leave, and what the run's
folder says is all it needs to resume.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.launch.backends.base import AGAIN, Look, next_step
from scaling.launch.backends.ray.attempt import Attempt, Ending, explain_loss, placement, remove_leftover
from scaling.launch.backends.ray.order import Order
from scaling.launch.backends.ray.shape import Node, Shape, can_hold, describe_nodes
from scaling.records.attempts.attempt import latest_attempt, latest_number
from scaling.records.attempts.causes import Cause, Decision
from scaling.records.attempts.contract import BUSY
from scaling.records.attempts.ends import read_ends, settle_end
from scaling.records.ownership.lease import LifeWatch
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.reading import RecordError
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.standing import find_standing
from scaling.records.state import RunState, Status

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often processes, and requests to stop, are looked at."""

BLIND_SECONDS = 15.0
"""How often a node that does not see the run's folder looks again."""

BUSY_SECONDS = 1.0
"""After a start that found the run held by another process."""

NODES_SECONDS = 5.0
"""How often the cluster's nodes are asked for while a run waits."""

LEAVE_SECONDS = 600.0
"""How long a run that was asked to leave may take to save before it is killed."""


class Supervisor:
    """Looks after one run; made an actor by `queue`."""

    def __init__(self, order: Order) -> None:
        self._order, self._run_dir = order, Path(order.run_dir)
        self._look = Look("queued")
        self._leaving = False
        self._tried = False
        """Whether this actor has started the run's processes."""
        self._life = LifeWatch()
        threading.Thread(target=self._go, name="supervisor", daemon=True).start()

    def look(self) -> Look:
        """Where the run stands; `ended` is the last word."""
        return self._look

    def leave(self) -> None:
        """Let the run save a checkpoint and end it here: its launcher leaves with the cluster."""
        self._leaving = True

    def _go(self) -> None:
        try:
            remove_leftover(self._group_name)
            self._look = self._supervise()
        except Exception as error:
            logger.exception("the supervisor failed")
            record_failure(self._run_dir, f"its supervisor failed: {type(error).__name__}: {error}")
            self._look = Look("ended", cause=Cause.FAILED, reason=str(error))

    @property
    def _group_name(self) -> str:
        return f"scaling {self._order.run_dir}"

    @property
    def _is_asked_to_stop(self) -> bool:
        return self._leaving or requested_stop(self._run_dir) is not None

    def _supervise(self) -> Look:
        """Until nothing is left to do, or to try."""
        while True:
            if self._is_asked_to_stop:
                self._settle_orphan()
                return Look("ended", cause=requested_stop(self._run_dir) or Cause.PREEMPTED)
            if not RunDir(self._run_dir).plan.exists():
                self._wait_for_folder()
                continue
            try:
                standing = find_standing(self._run_dir, RunPlan.load(self._run_dir), self._life)
            except RecordError as error:
                return Look("ended", cause=Cause.BAD_INPUT, reason=str(error))
            if standing.is_finished:
                return Look("ended", cause=Cause.DONE)
            if standing.is_alive:
                self._look = Look("running", where=standing.reason, reason="held by another process")
                time.sleep(LOOK_SECONDS)
                continue
            decision = self._decide()
            if decision is not None and decision.verdict not in AGAIN:
                last = read_ends(self._run_dir).last
                return Look("ended", cause=last.cause if last else Cause.FAILED, reason=decision.reason)
            if decision is not None and not self._waited(decision):
                continue
            self._tried = True
            self._attempt(decision.avoid_hosts if decision else ())

    def _decide(self) -> Decision | None:
        """What follows from the attempts of this order; None before the first one."""
        if latest_number(self._run_dir) <= self._order.attempts_before and not self._tried:
            return None
        self._settle_orphan()
        return next_step(self._run_dir, self._order.retries)

    def _settle_orphan(self) -> None:
        """Note how an attempt of this order ended whose supervisor was lost, once its processes are gone."""
        attempt = latest_attempt(self._run_dir)
        if attempt is None or attempt.attempt <= self._order.attempts_before:
            return
        self._wait_until_left()
        if not any(end.attempt == attempt.attempt for end in read_ends(self._run_dir).all):
            told = explain_loss(Ending(None), [attempt.job.removeprefix("ray ") or "of no Ray"])
            settle_end(self._run_dir, None, cause=told.cause, message=told.message)

    def _wait_until_left(self) -> None:
        """What outlived its worker saves and leaves."""
        while self._life.is_alive(self._run_dir):
            time.sleep(LOOK_SECONDS)

    def _attempt(self, avoid_hosts: Sequence[str]) -> None:
        """Take the run's place in the cluster, start its processes and note how they ended."""
        before = latest_number(self._run_dir)
        with placement(self._group_name, self._order.shape, self._nodes_of(avoid_hosts)) as group:
            if not self._placed(group):
                return
            attempt = Attempt(self._order, group)
            try:
                ending = self._follow(attempt)
            finally:
                attempt.end()
        if ending.code == BUSY:
            time.sleep(BUSY_SECONDS)
            return
        self._wait_until_left()
        number = latest_number(self._run_dir)
        has_told = number > before and any(end.attempt == number for end in read_ends(self._run_dir).all)
        settle_end(
            self._run_dir,
            ending.code,
            begun_after=before,
            cause=None if has_told else ending.cause,
            message=ending.message,
        )

    def _follow(self, attempt: Attempt) -> Ending:
        """Start the processes and wait for their end; pass on a request to stop."""
        import ray

        try:
            attempt.start()
        except ray.exceptions.RayError as error:
            told = str(error).strip().splitlines()[-1]
            return Ending(None, Cause.MACHINE_TROUBLE, f"Ray could not start it: {told}")
        self._look = Look("running", where=" ".join(dict.fromkeys(place.address for place in attempt.places)))
        asked: float | None = None
        while (ending := attempt.poll()) is None:
            if asked is None and self._is_asked_to_stop:
                asked = time.monotonic()
                attempt.leave()
            elif asked is not None and time.monotonic() - asked > LEAVE_SECONDS:
                attempt.kill()
            time.sleep(LOOK_SECONDS)
        return explain_loss(ending, [place.node_id for place in attempt.places])

    def _placed(self, group: "PlacementGroup") -> bool:
        """Wait for resources; False when the run was asked to stop meanwhile."""
        import ray

        look_again = 0.0
        while not group.wait(timeout_seconds=1):
            if self._is_asked_to_stop:
                return False
            if time.monotonic() > look_again:
                look_again = time.monotonic() + NODES_SECONDS
                nodes = ray.nodes()
                is_stuck = not can_hold(self._order.shape, nodes)
                self._look = Look("queued", reason=_why_waiting(self._order.shape, nodes, is_stuck), is_stuck=is_stuck)
        return True

    def _nodes_of(self, hosts: Sequence[str]) -> list[str]:
        """Ids of nodes on these hosts, unless the run cannot do without them."""
        import ray

        nodes = ray.nodes() if hosts else []
        avoid = [node["NodeID"] for node in nodes if node["Alive"] and node["NodeManagerHostname"] in hosts]
        return avoid if can_hold(self._order.shape, nodes, avoid) else []

    def _waited(self, decision: Decision) -> bool:
        """Wait as long as a decision says; False when the run was asked to stop meanwhile."""
        seconds = decision.delay_seconds
        when = f"starts again in {seconds:.0f} s" if seconds else "starts again"
        self._look = Look("queued", reason=f"{decision.reason}, {when}")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._is_asked_to_stop:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _wait_for_folder(self) -> None:
        """This node does not see the run's folder; storage may come back."""
        reason = (
            f"waits: node {os.uname().nodename} does not see {self._run_dir}; put the study on storage that all nodes "
            "share"
        )
        self._look = Look("queued", reason=reason, is_stuck=True)
        until = time.monotonic() + BLIND_SECONDS
        while time.monotonic() < until and not self._leaving:
            time.sleep(LOOK_SECONDS)


def record_failure(run_dir: Path, message: str) -> None:
    """Let the run's state say why it was given up, when its processes could not."""
    with contextlib.suppress(OSError):
        state = RunState.load(run_dir)
        state.model_copy(update={"status": Status.FAILED, "error": message}).save(run_dir)


def _why_waiting(shape: Shape, nodes: Sequence[Node], is_stuck: bool) -> str:
    if is_stuck:
        return f"waits for nodes that can hold {shape.describe()}; the cluster has {describe_nodes(nodes)}"
    return f"waits for {shape.describe()}"
