"""What the cluster itself says: whether there is a Slurm, how large an array may be, whether it would take a job."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.backends.slurm.profile import Profile
from scaling.launch.backends.slurm.script import explain_refusal, new_executor, resource_options
from scaling.launch.backends.slurm.shape import Shape

DEFAULT_ARRAY_TASKS = 1000
"""Where Slurm does not say; its own default of MaxArraySize is 1001."""


def require_slurm() -> None:
    """UserError when this machine is no login node of a Slurm cluster."""
    for program in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"launch.backend: slurm: {program} is not on this machine; start the launcher on a login node of the "
                "cluster, or try it out with slurm/local/up"
            )


@cache
def max_array_tasks() -> int:
    """Tasks of the largest array that Slurm takes."""
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.MULTILINE)
    return max(1, int(found[1]) - 1) if found and int(found[1]) > 0 else DEFAULT_ARRAY_TASKS


def test_shape(shape: Shape, profile: Profile) -> None:
    """UserError in Slurm's own words when it would refuse such a job at once; nothing is submitted."""
    executor = new_executor(Path("unused"))
    executor.update_parameters(**resource_options(shape, profile))
    script = executor._make_submission_file_text("true", "test")
    # The script names a folder of logs that does not exist, which matters only to a job that runs.
    answer = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(explain_refusal(answer.stderr, shape, profile))
