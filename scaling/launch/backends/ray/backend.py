"""The Ray back end: runs on a cluster, or on a Ray of the launcher's own on this machine; implements `Backend`.

Here is only what the launcher does: it writes down what is to be done, hands it to the study's queue, an actor of the
cluster, and asks that queue where the runs stand. Placing, watching and restarting runs is done beside them (`queue`,
`supervisor`), so the launcher may leave, and the next one finds the same queue by its name. The launcher's own Ray ends
with it: then its runs save and leave, and a detached launcher hands them to a keeper, which has a Ray of its own.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.launch.backends.base import Handle, Look, Resources
from scaling.launch.backends.ray.connection import Connection
from scaling.launch.backends.ray.order import Batch, forget_batches
from scaling.launch.backends.ray.queue import NAMESPACE, StudyQueue, name_of
from scaling.launch.backends.ray.shape import Shape, can_hold, describe_nodes, has_gpus, shape_of
from scaling.launch.keeper import start_keeper
from scaling.records.attempts.causes import Cause
from scaling.records.ownership.stop_request import StopCause, clear_stop, request_stop
from scaling.spec.launch_spec import LaunchSpec, RaySection

logger = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 120.0
"""How long the runs of the launcher's own Ray may take to save before it ends."""

ANSWER_SECONDS = 10.0
"""How long the queue may take to answer."""

START_SECONDS = 120.0
"""How long the queue may take to start."""

SILENT_SECONDS = 20.0
"""A head that is unreachable for so long is gone; soon after that Ray would end this process without any message."""


class RayBackend:
    """Runs as actors of Ray."""

    settings = RaySection

    def __init__(self, launch: LaunchSpec, need: Resources) -> None:
        self._launch, self._section, self._need = launch, launch.ray, need
        self._connection = Connection(self._section.address, dashboard=self._section.dashboard)
        self._queue: Any = None
        self._waiting: list[Path] = []
        """Submitted, and not handed over yet: the own Ray starts when it is first asked how they stand."""
        self._cap: int | None = None
        self._looks: dict[Path, Look] = {}
        self._silent_since: float | None = None
        self.scheduler = "" if self._connection.is_embedded else "Ray"
        self.poll_seconds = min(self._section.poll, 0.5) if self._connection.is_embedded else self._section.poll

    def check(self, need: Resources) -> None:
        """UserError when no node, or not enough of them, could hold a run; with an autoscaler only a warning."""
        if self._section.autoscaler and self._section.num_gpus is None:
            raise UserError(
                "launch.ray.autoscaler: the nodes to come are not known, so write launch.ray.num_gpus, the GPUs of one "
                "process (0 for the CPU)"
            )
        if not self._connection.is_embedded:
            self._connection.connect()
        shape, nodes = self._shape(), self._connection.nodes()
        if can_hold(shape, nodes):
            return
        told = f"a run takes {shape.describe()}, but {self._connection.name} has {describe_nodes(nodes)}"
        if not self._section.autoscaler:
            raise UserError(f"launch.ray: {told}; ask for less, or name a cluster that has it (launch.ray.address)")
        logger.warning("%s; it waits for nodes that the autoscaler adds", told)

    def submit(self, run_dirs: Sequence[Path], cap: int | None) -> list[Handle]:
        for run_dir in run_dirs:
            clear_stop(run_dir)
        self._cap = cap
        self._waiting += [run_dir for run_dir in run_dirs if run_dir not in self._waiting]
        nonce = "" if self._connection.is_embedded else self._hand_over()
        return [
            Handle(run_dir, "ray", nonce, index, name_of(run_dir) if nonce else None)
            for index, run_dir in enumerate(run_dirs)
        ]

    def adopt(self, study_dir: Path) -> list[Handle]:
        """Runs that the study's queue still has; those of another launcher's own Ray are found by their leases."""
        if self._connection.is_embedded:
            return []
        looks = self.poll(study_dir)
        # A queue whose node was lost is started again on another one: silence does not say that there are no runs.
        while self._silent_since is not None:
            if time.monotonic() - self._silent_since > START_SECONDS:
                raise UserError(
                    f"launch.backend: ray: the study's queue on {self._connection.name} has not answered for "
                    f"{START_SECONDS:.0f} s, so what it runs is not known; give the same command again"
                )
            time.sleep(self.poll_seconds)
            looks = self.poll(study_dir)
        alive = [run_dir for run_dir, look in looks.items() if look.phase != "ended"]
        return [Handle(run_dir, "ray", "", index, name_of(run_dir)) for index, run_dir in enumerate(alive)]

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        if self._waiting:
            self._hand_over()
        if self._connection.is_embedded and self._queue is None:
            return {}
        self._connection.connect()
        if not self._connection.is_reachable():
            return self._silence(is_head_gone=True)
        looks = self._ask(study_dir)
        if looks is None:
            return self._silence(is_head_gone=False)
        self._silent_since = None
        self._looks = {Path(run_dir): look for run_dir, look in looks.items()}
        return self._looks

    def cancel(self, run_dirs: Sequence[Path], cause: StopCause = Cause.CANCELLED) -> None:
        """The supervisors and the queue look for the markers themselves."""
        for run_dir in run_dirs:
            request_stop(run_dir, cause)

    def close(self, *, detach: bool) -> None:
        """The launcher disconnects from a cluster. Its own Ray ends when all runs have saved; detached, a keeper
        takes over."""
        if self._connection.is_embedded:
            left = [*self._leave(), *self._waiting]
            if detach and left:
                start_keeper(left, self._cap, self._launch)
        self._connection.disconnect()

    def _shape(self) -> Shape:
        return shape_of(self._section, self._need, has_gpus(self._connection.nodes()))

    def _hand_over(self) -> str:
        """Write down what waits and let the queue read it; the batch's name."""
        self._connection.connect()
        study_dir = self._waiting[0].parent
        batch = Batch.of(
            self._waiting,
            nonce=f"ray-{uuid.uuid4().hex[:12]}",
            shape=self._shape(),
            retries=self._launch.retries,
            execution=self._launch.execution(),
            is_embedded=self._connection.is_embedded,
            cap=self._cap,
            unix_time=time.time(),
        )
        batch.save(study_dir)
        self._waiting = []
        if self._ask(study_dir) == {}:
            # No queue reads what an earlier cluster was given; another launcher may be about to make one.
            forget_batches(study_dir, batch.unix_time - START_SECONDS)
        self._reach_queue(study_dir, batch)
        return batch.nonce

    def _reach_queue(self, study_dir: Path, batch: Batch) -> None:
        """Make the study's queue, or find the one that is there, and let it take the batch in."""
        import ray

        actor: Any = ray.remote(StudyQueue)
        options = actor.options(
            name=name_of(study_dir),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._queue = options.remote(str(study_dir), batch.unix_time)
            told = "it did not answer"
            try:
                if ray.get(self._queue.submit.remote(), timeout=START_SECONDS):
                    return
            except ray.exceptions.RayError as error:
                told = str(error).strip().splitlines()[-1]
            if time.monotonic() > deadline or "Error: " in told:
                raise UserError(
                    f"launch.backend: ray: {self._connection.name} cannot start the study's queue ({told}); its nodes "
                    "need this package, as it is here, and the study's folder"
                )
            time.sleep(0.5)

    def _ask(self, study_dir: Path) -> dict[str, Look] | None:
        """The queue's answer; nothing when there is no queue, None when it does not answer."""
        import ray

        try:
            if self._queue is None:
                self._queue = ray.get_actor(name_of(study_dir), namespace=NAMESPACE)
            looks: dict[str, Look] = ray.get(self._queue.looks.remote(), timeout=ANSWER_SECONDS)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            return None
        except (ValueError, ray.exceptions.RayActorError):
            self._queue = None
            return {}
        return looks

    def _silence(self, *, is_head_gone: bool) -> dict[Path, Look]:
        """Nothing is known of the runs; UserError when that is for good."""
        self._silent_since = self._silent_since or time.monotonic()
        name = self._connection.name
        if is_head_gone and time.monotonic() - self._silent_since > SILENT_SECONDS:
            raise UserError(
                f"{name} has not answered for {SILENT_SECONDS:.0f} s; its runs save and leave by themselves, and the "
                "same command continues them once there is a cluster again"
            )
        reason = f"{name} does not answer" if is_head_gone else f"the study's queue on {name} does not answer"
        return dict.fromkeys(self._looks, Look("unknown", reason=f"{reason}; asked again", is_stuck=True))

    def _leave(self) -> list[Path]:
        """Let the runs of the own Ray save; those that had not ended."""
        import ray

        open_runs = [run_dir for run_dir, look in self._looks.items() if look.phase != "ended"]
        if self._queue is None or not open_runs:
            return open_runs
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        while time.monotonic() < deadline:
            try:
                ray.get(self._queue.leave.remote(), timeout=ANSWER_SECONDS)
                looks = ray.get(self._queue.looks.remote(), timeout=ANSWER_SECONDS)
            except ray.exceptions.RayError:
                break
            if all(look.phase == "ended" for look in looks.values()):
                break
            time.sleep(0.2)
        return open_runs
