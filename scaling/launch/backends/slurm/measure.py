"""How long a launcher waits for Slurm with a thousand runs: submitting them, looking at them, telling where they stand.

Measured against the Slurm that this machine talks to (SLURM_CONF, as `slurm/local/up` prints it); jobs are to begin in
an hour and are cancelled at the end, so none ever runs. `python -m scaling.launch.backends.slurm.measure` prints the
seconds as JSON, or null where no Slurm answers.
"""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from scaling.launch.backends.base import Resources
from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.standing import find_standing
from scaling.spec.launch_spec import LaunchSpec

NUM_TASKS = 1_000

PROFILE = "sbatch: {begin: now+1hour}\n"


def has_slurm() -> bool:
    """Whether a Slurm answers here."""
    if shutil.which("squeue") is None:
        return False
    return subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, check=False).returncode == 0


def measure_array(num_tasks: int = NUM_TASKS) -> dict[str, float]:
    """Seconds of each thing a launcher does with one array of `num_tasks` runs."""
    with tempfile.TemporaryDirectory(prefix="scaling-bench-") as name:
        study = Path(name) / "thousand"
        runs = [study / f"run{number:04d}" for number in range(num_tasks)]
        for run in runs:
            run.mkdir(parents=True)
        profile = Path(name) / "profile.yaml"
        profile.write_text(PROFILE)
        launch = LaunchSpec.model_validate({"slurm": {"profile": str(profile), "max_parallel": 8}})
        backend = SlurmBackend(launch, Resources())
        moments = [time.perf_counter()]
        backend.submit(runs, None)
        moments.append(time.perf_counter())
        backend.poll(study)
        moments.append(time.perf_counter())
        for run in runs:
            find_standing(run)
        moments.append(time.perf_counter())
        backend.cancel(runs)
        moments.append(time.perf_counter())
    steps = ("submit", "poll", "status", "cancel")
    return {step: after - before for step, before, after in zip(steps, moments, moments[1:], strict=False)}


if __name__ == "__main__":
    print(json.dumps(measure_array() if has_slurm() else None))
