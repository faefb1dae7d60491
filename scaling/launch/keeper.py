"""`python -m scaling.launch.keeper JOB.json`: runs on this machine what a detached launcher left in its queue.

The job file is written before the keeper is started and holds the run directories and the section `launch`; what the
keeper has to say goes to `launch.log` of the study. It leaves as a launcher does: SIGTERM saves a checkpoint of every
running run. One that is killed takes its runs along, which save and leave, and its Ray, whose last two processes (the
agents beside a raylet) look for their head for a minute before they end.
"""

import contextlib
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from scaling.records.reading import read_sealed, write_sealed
from scaling.records.run_dir import StudyDir
from scaling.spec.launch_spec import LaunchSpec

logger = logging.getLogger(__name__)

LOG = "launch.log"


def start_keeper(run_dirs: Sequence[Path], cap: int | None, launch: LaunchSpec) -> int:
    """Start a keeper of these runs of one study in a session of its own; its process id."""
    study = StudyDir(run_dirs[0].parent)
    nonce = f"{launch.backend}-keeper-{uuid.uuid4().hex[:8]}"
    study.jobs.mkdir(exist_ok=True)
    body = {
        "nonce": nonce,
        "backend": launch.backend,
        "runs": [str(run_dir.resolve()) for run_dir in run_dirs],
        "cap": cap,
        "launch": launch.model_dump(mode="json"),
        "job_id": None,
        "submitted": time.time(),
    }
    write_sealed(study.job(nonce), body)
    with (study.path / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scaling.launch.keeper", str(study.job(nonce).resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    write_sealed(study.job(nonce), body | {"job_id": str(process.pid)})
    return process.pid


def main(argv: Sequence[str]) -> int:
    """Keep the runs of a job file until all of them ended; returns the exit code."""
    from scaling.launch import leave
    from scaling.launch.backends.base import make_backend

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    job = read_sealed(Path(argv[0]))
    launch = LaunchSpec.model_validate(job["launch"])
    run_dirs = [Path(run) for run in job["runs"]]
    backend = make_backend(launch)
    leave.listen()
    logger.info("keeping %d runs", len(run_dirs))
    backend.submit(run_dirs, job["cap"])
    phases: dict[Path, str] = {}
    try:
        while True:
            looks = backend.poll(run_dirs[0].parent)
            for run_dir, look in looks.items():
                if phases.get(run_dir) != look.phase:
                    logger.info("%s %s %s", run_dir.name, look.phase, look.reason or look.cause)
                phases[run_dir] = look.phase
            if not any(look.phase in ("queued", "running") for look in looks.values()):
                backend.close(detach=False)
                return 0
            time.sleep(backend.poll_seconds)
    except KeyboardInterrupt as request:
        logger.info("stopping (%s)", request)
        backend.close(detach=False)
        return 130
    finally:
        with contextlib.suppress(OSError):
            Path(argv[0]).unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
