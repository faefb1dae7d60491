"""A run that Slurm calls running while its heartbeat stands still: named by the launcher, ended beside the job.

Clocks of two machines are never compared: a heartbeat stands still when `state.json` has not changed for so long by the
watcher's own clock.
"""

import subprocess
import time
from pathlib import Path

from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import settle_end
from scaling.records.run_dir import RunDir

SAVE_SECONDS = 30.0
"""How long a hung run that was asked to save may take before it is killed."""


class Heartbeat:
    """When a run's state was last seen to change, by this process's monotonic clock."""

    def __init__(self, run_dir: Path) -> None:
        self._path = RunDir(run_dir).state
        self._seen = self._stamp()
        self._since = time.monotonic()

    def still_seconds(self) -> float:
        """How long the state has not changed."""
        now = self._stamp()
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)


def watch_heartbeat(run_dir: Path, hung_after: float, job: str, restart: str) -> int:
    """Until this process is ended: ask a run that hangs to save, then kill its processes.

    The job lives on: its `srun` ends, and `job after` queues it again in its budget. `restart` is how often it
    was queued again.
    """
    heartbeat = Heartbeat(run_dir)
    while True:
        time.sleep(max(0.2, min(hung_after / 10, 10.0)))
        still = heartbeat.still_seconds()
        if still < hung_after:
            continue
        print(f"watch: no heartbeat of {run_dir.name} for {still:.0f} s: it hangs; asked to save", flush=True)
        subprocess.run(["scancel", "--signal=USR1", job], check=False)
        if not _beats_again(heartbeat, min(SAVE_SECONDS, hung_after)):
            print("watch: it did not answer; its processes are killed", flush=True)
            message = f"its heartbeat stood still for {heartbeat.still_seconds():.0f} s"
            settle_end(run_dir, None, cause=Cause.LOST, job=f"{job}/{restart}", message=message)
            # The step, not the job: that would be a scancel by a person.
            subprocess.run(["scancel", "--signal=KILL", f"{job}.0"], check=False)
        heartbeat = Heartbeat(run_dir)


def _beats_again(heartbeat: Heartbeat, seconds: float) -> bool:
    asked = time.monotonic()
    while time.monotonic() < asked + seconds:
        time.sleep(0.1)
        if heartbeat.still_seconds() < time.monotonic() - asked:
            return True
    return False
