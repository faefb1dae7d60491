"""What the first process writes while a run goes on: events, and the state with its heartbeat.

A thread beats once a second whatever the run is busy with, so that a long evaluation does not look like a dead run.
Beats are not flushed to the disk: a power cut may lose one, and then the run is dead anyway.
"""

import logging
import os
import threading
import time
from pathlib import Path

import torch

from scaling.records.events import Event, EventWriter, Kind
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState, Status
from scaling.train.clock import Clock
from scaling.train.trackers import Trackers

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0


class Recorder:
    """Writes the records of one attempt; on other ranks than the first it does nothing."""

    def __init__(self, run_dir: Path, plan: RunPlan, *, device: torch.device, world: int, is_first: bool) -> None:
        self._run_dir, self._plan = run_dir, plan
        self.device_name = device_name(device)
        self._world = world
        self._is_first = is_first
        self.attempt = RunState.load(run_dir).attempt + 1
        self.step = 0
        """Where the run is; the heartbeat tells it."""
        self.clock = Clock(device)
        self._status: Status = "running"
        self._closed = threading.Event()
        self._lock = threading.Lock()
        if is_first:
            self._writer = EventWriter(run_dir / "events.jsonl")
            self._trackers = Trackers(run_dir, plan)
            self.state("running")
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()

    def event(self, kind: Kind, metrics: dict[str, float], message: str = "") -> None:
        """Append one row about the present step; the counters follow from it."""
        if not self._is_first:
            return
        self.clock.settle()
        examples = self.step * self._plan.schedule.batch
        event = Event(
            run_id=self._plan.run_id,
            attempt=self.attempt,
            kind=kind,
            step=self.step,
            examples_seen=examples,
            unique_examples=min(examples, self._plan.subset.num_samples),
            flops=examples * self._plan.model.flops_train_per_image,
            train_seconds=self.clock.train_seconds,
            pause_seconds=self.clock.pause_seconds,
            device=self.device_name,
            num_devices=self._world,
            precision=self._plan.recipe.precision,
            metrics=metrics,
            message=message,
            unix_time=time.time(),
        )
        self._writer.write(event)
        self._trackers.record(event)

    def state(self, status: Status, error: str = "") -> None:
        """Replace the state, durably."""
        if self._is_first:
            with self._lock:
                self._status = status
                self._present(error).save(self._run_dir)

    def close(self) -> None:
        if self._is_first:
            self._closed.set()
            self._heart.join()
            self._trackers.close()
            self._writer.close()

    def _present(self, error: str = "") -> RunState:
        return RunState(
            status=self._status,
            attempt=self.attempt,
            step=self.step,
            host=os.uname().nodename,
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID", ""),
            heartbeat_unix_time=time.time(),
            error=error,
        )

    def _beat(self) -> None:
        path = self._run_dir / "state.json"
        temporary = path.with_name(f".{path.name}.beat")
        while not self._closed.wait(HEARTBEAT_SECONDS):
            with self._lock:
                if self._status != "running":
                    continue
                try:
                    temporary.write_text(self._present().model_dump_json(indent=2) + "\n")
                    temporary.replace(path)
                except OSError as error:
                    # A beat that is lost must not end a run; what cannot be written next will say so itself.
                    logger.warning("heartbeat not written: %s", error)


def device_name(device: torch.device) -> str:
    """The device as its driver reports it; for a CPU its model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
