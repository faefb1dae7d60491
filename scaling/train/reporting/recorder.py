"""What the first process writes during a run: events, and the state with its heartbeat.

A thread beats once a second whatever the run is busy with, so that a long evaluation does not look like a dead run.
Beats are not flushed to the disk: a power cut may lose one, and then the run is dead anyway.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scaling.models.cpu_arithmetic import cpu_name
from scaling.records.attempts.attempt import Attempt, claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.changes import changes_of
from scaling.records.attempts.ends import End, append_end
from scaling.records.events import Event, EventWriter, Kind
from scaling.records.files import TEMPORARY
from scaling.records.ownership.lease import Lease, LeaseLostError
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.standing import STATUS_AFTER
from scaling.records.state import RunState, Status
from scaling.train.processes.failures import CODES
from scaling.train.reporting.clock import Clock
from scaling.train.reporting.energy import EnergyMeter
from scaling.train.reporting.hardware import describe_hardware
from scaling.train.reporting.trackers import Trackers

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0

_KIND_AT_END: dict[Cause, Kind] = {
    Cause.FAILED: "failed",
    Cause.DIVERGED: "failed",
    Cause.BAD_INPUT: "failed",
    Cause.OUT_OF_MEMORY: "failed",
}
"""The last row of an attempt that cannot simply be continued; any other ends with `preempt`."""


class Recorder:
    """Writes the records of one attempt; on other ranks than the first it does nothing.

    Before each write it asks the lease whether the run is still this process's: LeaseLostError otherwise.
    """

    def __init__(
        self,
        run_dir: Path,
        plan: RunPlan,
        lease: Lease | None = None,
        attempt: Attempt | None = None,
        *,
        device: torch.device,
        world: int,
        is_first: bool,
    ) -> None:
        self._run_dir, self._plan, self._lease = run_dir, plan, lease
        self.device_name = device_name(device)
        self._world = world
        self._is_first = is_first
        self.step = 0
        """Where the run is; the heartbeat tells it."""
        self._resumed_step = 0
        self._scoring = ""
        self.clock = Clock(device)
        self.energy = EnergyMeter(device)
        self._status = Status.RUNNING
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.attempt = Attempt(attempt=1, host="", pid=0, unix_time=0.0)
        if is_first:
            self.guard()
            begun = attempt or claim_attempt(run_dir)
            self.attempt = begun.model_copy(
                update={
                    "device": self.device_name,
                    "num_devices": world,
                    "threads": torch.get_num_threads(),
                    "hardware": describe_hardware(),
                }
            )
            self.attempt.save(run_dir)
            self._writer = EventWriter(RunDir(run_dir).events)
            self._trackers = Trackers(run_dir, plan)
            self._write_state()
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()

    def guard(self) -> None:
        """LeaseLostError when this process may not write the run any more."""
        if self._lease is not None:
            self._lease.check()

    def resume_at(self, step: int) -> None:
        """The attempt continues from here."""
        self.step = self._resumed_step = step

    @property
    def has_trained(self) -> bool:
        """Whether this attempt has done a step."""
        return self.step > self._resumed_step

    def computes_with(self, division: dict[str, int | bool], continued: int) -> tuple[str, ...]:
        """Record how the attempt cuts and computes a batch; returns, and logs, the changes that its numbers carry
        (`records.attempts.changes`). `continued` is the attempt whose checkpoint it resumes from, 0 for none."""
        if not self._is_first:
            return ()
        begun = self.attempt.model_copy(update={"division": division})
        changes = changes_of(self._run_dir, begun, self.step, continued)
        self.attempt = begun.model_copy(update={"changes": changes})
        self.guard()
        self.attempt.save(self._run_dir)
        for change in changes:
            logger.warning("%s: numbers are not bit for bit those of before", change)
        return changes

    def event(self, kind: Kind, metrics: dict[str, float], message: str = "") -> None:
        """Append one row about the present step."""
        if not self._is_first:
            return
        self.guard()
        self.clock.settle()
        event = self._event(kind, self.step, self.clock.train_seconds, self.clock.pause_seconds, metrics, message)
        self._writer.write(event)
        self._trackers.record(event)

    def checkpoint(self, step: int, train_seconds: float, pause_seconds: float, stop_seconds: float) -> None:
        """Append the row of a checkpoint that is on the disk by now, with the counters of its own step: others may have
        been done and logged since, so no tracker gets it. `stop_seconds` is for how long training stood still."""
        if self._is_first:
            self.guard()
            metrics = {"stop_seconds": stop_seconds}
            self._writer.write(self._event("checkpoint", step, train_seconds, pause_seconds, metrics))

    def _event(
        self,
        kind: Kind,
        step: int,
        train_seconds: float,
        pause_seconds: float,
        metrics: dict[str, float],
        message: str = "",
    ) -> Event:
        """The other counters follow from the step."""
        examples = step * self._plan.schedule.batch
        return Event(
            run_id=self._plan.run_id,
            attempt=self.attempt.attempt,
            kind=kind,
            step=step,
            examples_seen=examples,
            unique_examples=min(examples, self._plan.subset.num_samples),
            flops=self._plan.train_flops(examples),
            train_seconds=train_seconds,
            pause_seconds=pause_seconds,
            device=self.device_name,
            num_devices=self._world,
            precision=self._plan.recipe.precision,
            metrics=metrics,
            message=message,
            unix_time=time.time(),
        )

    def scoring(self, name: str) -> None:
        """Tell which evaluation is being computed."""
        self._scoring = name
        self._write_state()

    def end(self, cause: Cause, message: str = "") -> None:
        """The attempt's last row, its end and its state; each is tried, also when the disk refuses another."""
        if not self._is_first:
            return
        with self._lock:
            self._status = Status.DONE if cause is Cause.DONE else STATUS_AFTER[cause]
        self.guard()
        kind = _KIND_AT_END.get(cause, "preempt")
        refusals: list[OSError] = []
        if cause is not Cause.DONE:
            _try(lambda: self.event(kind, {}, message), refusals)
        error = "" if cause in (Cause.DONE, Cause.PREEMPTED) else message
        _try(lambda: append_end(self._run_dir, self._end(cause, message)), refusals)
        _try(lambda: self._present(error).save(self._run_dir), refusals)
        for refusal in refusals:
            logger.error("the end of the run is not fully recorded: %s", refusal)

    def close(self) -> None:
        if self._is_first:
            self._closed.set()
            self._heart.join()
            self._trackers.close()
            self._writer.close()

    def _end(self, cause: Cause, message: str) -> End:
        return End(
            attempt=self.attempt.attempt,
            cause=cause,
            code=CODES[cause],
            step=self.step,
            host=self.attempt.host,
            job=self.attempt.job,
            message=message,
            seconds=max(0.0, time.time() - self.attempt.unix_time),
            train_seconds=self.clock.attempt_train_seconds,
            energy_joules=self._joules(),
            unix_time=time.time(),
        )

    def _joules(self) -> float | None:
        """Of this attempt's training; None for one that only scores."""
        return self.energy.joules(self._world) if self.clock.attempt_train_seconds > 0 else None

    def _write_state(self, error: str = "") -> None:
        """Replace the state, durably."""
        if self._is_first:
            self.guard()
            with self._lock:
                self._present(error).save(self._run_dir)

    def _present(self, error: str = "") -> RunState:
        return RunState(
            status=self._status,
            attempt=self.attempt.attempt,
            step=self.step,
            resumed_step=self._resumed_step,
            train_seconds=self.clock.attempt_train_seconds,
            energy_joules=self._joules(),
            scoring=self._scoring,
            host=self.attempt.host,
            pid=os.getpid(),
            job=self.attempt.job,
            heartbeat_unix_time=time.time(),
            error=error,
        )

    def _beat(self) -> None:
        path = RunDir(self._run_dir).state
        temporary = path.with_name(f".{path.name}.beat{TEMPORARY}")
        while not self._closed.wait(HEARTBEAT_SECONDS):
            with self._lock:
                if self._status is not Status.RUNNING:
                    continue
                try:
                    self.guard()
                    temporary.write_text(self._present().to_text())
                    temporary.replace(path)
                except LeaseLostError as error:
                    # The training loop meets it at its next write.
                    logger.warning("%s", error)
                    return
                except OSError as error:
                    # A beat that is lost must not end a run; what cannot be written next will say so itself.
                    logger.warning("heartbeat not written: %s", error)


def _try(write: Callable[[], None], refusals: list[OSError]) -> None:
    try:
        write()
    except OSError as error:
        refusals.append(error)


def device_name(device: torch.device) -> str:
    """The device as its driver reports it; for a CPU its model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()
