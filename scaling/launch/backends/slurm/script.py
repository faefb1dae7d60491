"""The batch script of a job array and its submission, by submitit's executor: its parameters, its script, its sbatch.

submitit's own tasks unpickle a function and run it inside a process that handles signals itself. Ours replace
themselves by training (`job task`), so that Slurm's signals reach it directly, and the decision to queue a job
again is taken beside it, after `srun` (`job after`). Hence one private method of submitit, `_submit_command`, and
one internal key, `map_count`, which a test pins.

    setup       modules, environment, the profile's lines, a free port for the processes to meet at
    srun        one task a device, each of which becomes `python -m scaling.train`
    teardown    how the attempt ended, and whether the job is queued again
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UserError
from scaling.launch.backends.slurm.batch import ArrayJob
from scaling.launch.backends.slurm.profile import Profile
from scaling.launch.backends.slurm.queue import job_comment, job_name
from scaling.launch.backends.slurm.shape import Shape

if TYPE_CHECKING:
    import submitit

PARTNER_SECONDS = 60
"""After a process of a run ended, the others may save for so long before Slurm kills them."""

SBATCH_SECONDS = 20
"""How long sbatch may try. What it submitted although it was ended is found again by its nonce."""

JOB_MODULE = "scaling.launch.backends.slurm.job"

FOREIGN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher inside another job would hand on, and what would then win over Slurm's own numbers."""

_PORT = "import socket; s = socket.socket(); s.bind(('', 0)); print(s.getsockname()[1])"

_SIGNS = {
    "partition": ("invalid partition", "partition name"),
    "account": ("account",),
    "qos": ("qos",),
    "constraint": ("feature", "constraint"),
    "gpus": ("gres", "generic resource"),
    "reservation": ("reservation",),
    "exclude": ("node name",),
    "time": ("time limit", "time specification"),
    "sbatch": ("unrecognized option", "license"),
}
"""Field of a profile -> what sbatch says when it refuses because of it."""

_SIZE_SIGNS = ("node configuration", "node count", "more processors", "cpu count", "memory")
_QUOTA_SIGNS = ("job violates", "limit on", "maximum number of jobs", "temporarily un")


def new_executor(logs: Path) -> "submitit.SlurmExecutor":
    """submitit's, but a full queue is reported: sbatch itself would retry for two minutes in silence."""
    import submitit

    class Executor(submitit.SlurmExecutor):  # type: ignore[misc,unused-ignore]
        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            return ["timeout", str(SBATCH_SECONDS), *super()._make_submission_command(submission_file_path)]

    return Executor(logs)


def submit_array(batch: ArrayJob, batch_path: Path, shape: Shape, profile: Profile, cap: int | None, after: str) -> str:
    """Submit a batch and return Slurm's number of it; UserError in Slurm's own words when it is refused.

    `after` is the number of an array whose tasks have to end first, empty for none.
    """
    logs = batch_path.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)  # Slurm fails in silence when it cannot write a log.
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = make_executor(batch, batch_path, shape, profile, cap, after)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit repeats there what its error says.
            return str(executor._submit_command(task_command(batch_path, profile)).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(explain_refusal(str(error), shape, profile)) from error


def make_executor(
    batch: ArrayJob, batch_path: Path, shape: Shape, profile: Profile, cap: int | None, after: str = ""
) -> "submitit.SlurmExecutor":
    """submitit's executor with everything that the script of this batch says."""
    executor = new_executor(batch_path.parent / "logs")
    size = len(batch.runs)
    srun = ["--kill-on-bad-exit=0", f"--wait={PARTNER_SECONDS}", f"--cpus-per-task={shape.cpus_per_task}"]
    srun += shlex.split(profile.container) if profile.container.startswith("--") else []
    executor.update_parameters(
        **resource_options(shape, profile),
        job_name=job_name(batch.study),
        comment=job_comment(batch.study, batch.nonce),
        dependency=f"afterany:{after}" if after else None,
        array_parallelism=min(cap or size, size),
        setup=_setup(batch, batch_path, shape, profile),
        teardown=_teardown(batch_path),
        srun_args=srun,
    )
    executor.parameters["map_count"] = size
    return executor


def resource_options(shape: Shape, profile: Profile) -> dict[str, object]:
    """submitit's parameters that say what a job takes and where it may run."""
    extra: dict[str, object] = {"requeue": True, "signal": f"USR1@{int(profile.save_before)}", **profile.sbatch}
    if profile.reservation:
        extra["reservation"] = profile.reservation
    return {
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "exclude": profile.exclude or None,
        "gres": f"gpu:{profile.gpu_type}{shape.tasks_per_node}" if profile.gpus else None,
        "nodes": shape.nodes,
        "ntasks_per_node": shape.tasks_per_node,
        "cpus_per_task": shape.cpus_per_task,
        "mem": f"{shape.memory_mib}M" if shape.memory_mib else None,
        "time": shape.minutes,
        "stderr_to_stdout": True,
        "wckey": None,
        "additional_parameters": extra,
    }


def task_command(batch_path: Path, profile: Profile) -> str:
    """What srun starts on each node, once for each process."""
    container = "" if profile.container.startswith("--") else profile.container
    python = profile.python or sys.executable
    return shlex.join([*shlex.split(container), python, "-m", JOB_MODULE, "task", str(batch_path)])


def explain_refusal(text: str, shape: Shape, profile: Profile) -> str:
    """sbatch's own words, with the field that they are about, and its value, where one can be told."""
    errors = [line.partition("error: ")[2] or line for line in text.splitlines() if line.strip()]
    errors = [re.sub(r"^(ArrayJob job submission failed|allocation failure): ", "", line).strip() for line in errors]
    words = "; ".join(dict.fromkeys(line for line in errors if not line.startswith("Try ")))
    lowered = words.lower()
    field = next((name for name, signs in _SIGNS.items() if any(sign in lowered for sign in signs)), "")
    option = next((name for name in profile.sbatch if f"--{name.lower()}" in lowered), "")
    if option:
        hint = f"sbatch of the profile has {option}: {profile.sbatch[option]!r}; see man sbatch"
    elif any(sign in lowered for sign in _QUOTA_SIGNS):
        hint = "wait until jobs have ended, or submit fewer runs at a time"
    elif field:
        hint = f"{field} of the profile is {getattr(profile, field)!r}; see what sinfo and sacctmgr offer"
    elif any(sign in lowered for sign in _SIZE_SIGNS):
        hint = f"a run asks for {shape.describe()}; ask for less in launch.slurm, or take another profile"
    else:
        hint = "look at the profile"
    return f"Slurm refuses the job: {words}; {hint}"


def _setup(batch: ArrayJob, batch_path: Path, shape: Shape, profile: Profile) -> list[str]:
    """Lines before srun, on the first node."""
    python = shlex.quote(sys.executable)
    interfaces = {"NCCL_SOCKET_IFNAME": profile.nccl_interface, "GLOO_SOCKET_IFNAME": profile.gloo_interface}
    variables = {"OMP_NUM_THREADS": str(shape.cpus_per_task)}
    variables |= {name: value for name, value in interfaces.items() if value} | profile.environment
    lines = [
        "trap : TERM USR1  # The shell outlives what asks the processes to save.",
        f"unset {' '.join(FOREIGN_VARIABLES)}",
        "export SCALING_JOB_START=$(date +%s)",
        *(f"module load {shlex.quote(module)}" for module in profile.modules),
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *profile.setup,
        f"export MASTER_PORT=$({python} -c {shlex.quote(_PORT)})",
    ]
    lines.append(f"{_beside(batch_path, 'before')} || exit $?")
    if batch.hung_after is not None:
        lines.append(f"{_beside(batch_path, 'watch')} &")
    return lines


def _teardown(batch_path: Path) -> list[str]:
    """Lines after srun: the job's exit code is that of training."""
    return ["code=$?", "kill $(jobs -p) 2>/dev/null", f"{_beside(batch_path, 'after')} $code", "exit $code"]


def _beside(batch_path: Path, command: str) -> str:
    """A command of `slurm/job.py` that runs on the first node, outside of any container."""
    return f"{shlex.quote(sys.executable)} -m {JOB_MODULE} {command} {shlex.quote(str(batch_path))}"
