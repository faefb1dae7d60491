"""What rank 0 writes while a run goes on: events, state with heartbeat, and finally the result."""

import os
import time
from pathlib import Path

import torch

from scaling.records.events import Event, EventWriter, Kind
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState, Status
from scaling.train.clock import Clock

HEARTBEAT_SECONDS = 1.0


class Recorder:
    """Writes the records of one attempt; on other ranks than the first it does nothing."""

    def __init__(self, run_dir: Path, plan: RunPlan, *, device: torch.device, world: int, is_first: bool) -> None:
        self._run_dir, self._plan, self._active = run_dir, plan, is_first
        self._device_name = device_name(device)
        self._world = world
        self._last_heartbeat = 0.0
        self.last_step = 0
        self.last_clock = Clock()
        self.attempt = RunState.load(run_dir).attempt + 1
        self._writer = EventWriter(run_dir / "events.jsonl") if is_first else None

    def event(self, kind: Kind, step: int, clock: Clock, metrics: dict[str, float], message: str = "") -> None:
        """Append one row; the counters follow from the step."""
        self.last_step, self.last_clock = step, clock
        if self._writer is None:
            return
        examples = step * self._plan.schedule.batch
        self._writer.write(
            Event(
                run_id=self._plan.run_id,
                attempt=self.attempt,
                kind=kind,
                step=step,
                examples_seen=examples,
                unique_examples=min(examples, self._plan.subset.num_samples),
                flops=examples * self._plan.model.flops_train_per_image,
                train_seconds=clock.train_seconds,
                pause_seconds=clock.pause_seconds,
                device=self._device_name,
                num_devices=self._world,
                precision=self._plan.recipe.precision,
                metrics=metrics,
                message=message,
                unix_time=time.time(),
            )
        )

    def heartbeat(self, step: int) -> None:
        """Tell at most once a second that the run is alive, and where."""
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT_SECONDS:
            self.state("running", step)

    def state(self, status: Status, step: int, error: str = "") -> None:
        if not self._active:
            return
        self._last_heartbeat = time.monotonic()
        RunState(
            status=status,
            attempt=self.attempt,
            step=step,
            host=os.uname().nodename,
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID", ""),
            heartbeat_unix_time=time.time(),
            error=error,
        ).save(self._run_dir)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def device_name(device: torch.device) -> str:
    """The device as its driver reports it; for a CPU its model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
