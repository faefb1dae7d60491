"""What to report of a job whose run could not begin: read from the job's log, as the run itself recorded nothing."""

import os
import stat
from pathlib import Path

TAIL_BYTES = 16 * 1024

_NO_CAUSE = ("Exited with exit code", "task 0: Killed", "Terminated")
"""Lines of srun that repeat how a process ended."""


def unseen(run_dir: Path) -> str:
    """A process met trouble of its machine before it could open the run's records."""
    nodes = os.environ.get("SLURM_JOB_NODELIST", os.uname().nodename)
    return (
        f"a process on {nodes} could not start or does not see {run_dir}; put the study on storage that all nodes "
        "share, and see what it said in the study's jobs/logs"
    )


def no_start(code: int, log: int = 1) -> str:
    """The last error in the job's log, which is this process's own output `log`; empty after a death by a signal."""
    if code == 0 or code > 128 or not stat.S_ISREG(os.fstat(log).st_mode):
        return ""
    path = Path(f"/proc/self/fd/{log}").readlink()
    said = last_error(path)
    if not said or said.startswith("error: "):
        return said.removeprefix("error: ")  # A sentence of ours.
    return f"training did not start: {said}; look at container, python, modules and setup of the profile, and at {path}"


def last_error(log: Path) -> str:
    """The last line of a log that tells of an error; empty where none does."""
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    told = [line.strip() for line in lines if "error" in line.lower() and not any(part in line for part in _NO_CAUSE)]
    return told[-1][:300] if told else ""
