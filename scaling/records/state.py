"""`state.json` and the run lock: is this run pending, running, pre-empted, failed or done, and who holds it?

The state says what the run last reported; the lock says whether a process is alive behind it. A `running`
state whose lock is free is a run that was killed. The lock is the kernel's (`flock`), so it cannot outlive
its process on this machine; where other hosts may write the same folder, the heartbeat tells.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict

from scaling.records.files import write_text_atomic

Status = Literal["pending", "running", "preempted", "failed", "done"]


class RunState(BaseModel):
    """The latest word of a run about itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status = "pending"
    attempt: int = 0
    step: int = 0
    host: str = ""
    pid: int = 0
    job: str = ""
    """The scheduler's name for the process: a Slurm job id, a Ray trial; empty on this machine."""
    heartbeat_unix_time: float = 0.0
    error: str = ""

    def save(self, run_dir: Path) -> None:
        write_text_atomic(run_dir / "state.json", self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """The saved state; `pending` when the run never reported."""
        path = run_dir / "state.json"
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()

    def heartbeat_age_seconds(self) -> float:
        return max(0.0, time.time() - self.heartbeat_unix_time)


class RunLock:
    """Exclusive right to write a run directory, held from `acquire` until the process ends."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "lock"
        self._stream: IO[str] | None = None

    def acquire(self, patience_seconds: float = 1.0) -> bool:
        """True when the lock is ours; False when a living process holds it.

        A short patience, because a reader that asks `is_held` holds a shared lock for an instant.
        """
        stream = self._path.open("a+")
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    stream.close()
                    return False
                time.sleep(0.02)
        stream.truncate(0)
        stream.write(f"{os.uname().nodename} {os.getpid()}\n")
        stream.flush()
        self._stream = stream
        return True

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @staticmethod
    def is_held(run_dir: Path) -> bool:
        """Whether some living process holds the run."""
        path = run_dir / "lock"
        if not path.exists():
            return False
        with path.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
