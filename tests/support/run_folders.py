"""What tests look for in a run's folder."""

import time
from pathlib import Path

from scaling.records.events import read_events
from scaling.records.run_dir import RunDir
from scaling.train.checkpoints.checkpoint import COMPLETE, checkpoint_number


def checkpoints(run_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [marker.parent for marker in RunDir(run_dir).checkpoints.glob(f"*/{COMPLETE}")]
    return sorted(
        (path for path in found if checkpoint_number(path.name)), key=lambda path: checkpoint_number(path.name)
    )


def steps_saved(run_dir: Path) -> list[int]:
    """Their steps, oldest first."""
    return [int(path.name[5:13]) for path in checkpoints(run_dir)]


def starts(run_dir: Path) -> list[int]:
    """The step at which each attempt began."""
    return [event.step for event in read_events(RunDir(run_dir).events).events if event.kind == "start"]


def losses(run_dir: Path) -> dict[int, float]:
    """Training loss of every logged step; of a step that was done again, the last attempt's counts."""
    events = read_events(RunDir(run_dir).events).events
    return {event.step: event.metrics["loss"] for event in events if event.kind == "step"}


def wait_for_checkpoint(run_dir: Path, step: int) -> None:
    """Until a checkpoint of that step or a later one is recorded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        events = read_events(run_dir / "events.jsonl").events
        if any(event.kind == "checkpoint" and event.step >= step for event in events):
            return
        time.sleep(0.02)
    raise AssertionError((run_dir / "log.txt").read_text()[-2000:])
