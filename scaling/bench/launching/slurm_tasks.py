"""How long a launcher waits for Slurm with a thousand runs: submitting them, looking at them, telling where they stand.

On a Slurm of virtual nodes that is started for it (`slurm/local/up` of the clone) and ended afterwards, or on the one
that this machine talks to. Jobs are to begin in an hour and are cancelled at the end, so none ever runs.
`python -m scaling.bench.launching.slurm_tasks STUDY.yaml` measures on the latter and prints the seconds as JSON.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scaling.launch.backends.base import Resources
from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.launch.study_dir import write_study
from scaling.plan.planner import Planner
from scaling.spec.launch_spec import LaunchSpec
from scaling.spec.study import load_study

NUM_TASKS = 1_000

PROFILE = "sbatch: {begin: now+1hour}\n"

LOCAL = Path(__file__).parents[3] / "slurm" / "local"
"""Of a clone; an installed package has no such folder."""


def measure_slurm(sweep: Path, where: str) -> dict[str, float] | str:
    """Seconds of each thing that a launcher does with the first thousand runs of a study; else why there are none.

    `where` is `own`, for a Slurm that is started for it, or `here`.
    """
    command = [sys.executable, "-m", "scaling.bench.launching.slurm_tasks", str(sweep)]
    if where == "here":
        if not _answers(os.environ):
            return "no Slurm answers here"
        environments = _as_it_is()
    else:
        missing = [program for program in ("slurmctld", "slurmd", "munged", "sbatch") if not _find(program)]
        if missing or not LOCAL.is_dir():
            needs = "a clone of the repository" if not LOCAL.is_dir() else "Debian's slurm-wlm and slurm-client"
            return f"a Slurm of its own needs {needs}"
        environments = _own_slurm()
    with environments as environment:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"measuring on Slurm failed:\n{answer.stderr}")
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _answers(environment: Mapping[str, str]) -> bool:
    if shutil.which("squeue") is None:
        return False
    query = ["squeue", "--noheader", "--me"]
    return subprocess.run(query, env=environment, capture_output=True, check=False).returncode == 0


@contextmanager
def _as_it_is() -> Iterator[Mapping[str, str]]:
    yield os.environ


@contextmanager
def _own_slurm() -> Iterator[Mapping[str, str]]:
    """The environment of a Slurm that lives as long as this context."""
    with tempfile.TemporaryDirectory(prefix="scaling-slurm-") as folder:
        try:
            up = [str(LOCAL / "up"), "--dir", folder, "--nodes", "1"]
            subprocess.run(up, capture_output=True, text=True, check=True)
            yield os.environ | {"SLURM_CONF": f"{folder}/slurm.conf"}
        finally:
            subprocess.run([str(LOCAL / "down"), folder], capture_output=True, check=False)


def _measure(sweep: Path) -> dict[str, float]:
    """On the Slurm that this process talks to."""
    study, document = load_study(sweep, [])
    plans = Planner(study, document).plan()[:NUM_TASKS]
    with tempfile.TemporaryDirectory(prefix="scaling-bench-") as name:
        folder = Path(name) / "thousand"
        profile = Path(name) / "profile.yaml"
        profile.write_text(PROFILE)
        launch = LaunchSpec.model_validate({"slurm": {"profile": str(profile), "max_parallel": 8}})
        backend = SlurmBackend(launch, Resources())
        runs = [folder.resolve() / plan.run_id for plan in plans]
        status = [sys.executable, "-m", "scaling.status", str(folder)]
        steps: dict[str, Callable[[], object]] = {
            f"write {len(runs):,} run folders": lambda: write_study(folder, document, plans),
            "submit": lambda: backend.submit(runs, None),
            "poll": lambda: backend.poll(folder.resolve()),
            "scaling.status": lambda: subprocess.run(status, stdout=subprocess.DEVNULL, check=True),
            "cancel": lambda: backend.cancel(runs),
        }
        seconds = {}
        for step, act in steps.items():
            started = time.perf_counter()
            act()
            seconds[step] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
