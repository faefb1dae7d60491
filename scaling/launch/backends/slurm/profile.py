"""A profile: what a cluster calls its partitions and devices, and what has to happen on a node before training.

One YAML file for each kind of node of a cluster (`slurm/profiles/`), written once by whoever knows the cluster and
named by every study: `launch: {slurm: {profile: slurm/profiles/h100.yaml}}`. It says what a node offers and how jobs
are asked for; how much of it a run takes is the study's. Mistakes are reported with file and line at once.
"""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from scaling.errors import UserError
from scaling.records.run_plan import Frozen
from scaling.spec.document import load_document
from scaling.spec.launch_spec import Seconds
from scaling.spec.study import explain

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_OUR_OPTIONS = frozenset(
    [
        "array",
        "nodes",
        "ntasks",
        "ntasks-per-node",
        "time",
        "signal",
        "requeue",
        "no-requeue",
        "output",
        "error",
        "open-mode",
        "job-name",
        "comment",
        "parsable",
        "chdir",
        "partition",
        "account",
        "qos",
        "constraint",
        "reservation",
        "exclude",
        "gres",
        "cpus-per-task",
        "mem",
    ]
)


class Profile(Frozen):
    """One kind of node of one cluster. An empty text leaves the choice to Slurm's defaults."""

    partition: str = Field("", description="Partition, or several with commas, as sinfo lists them.")
    account: str = Field("", description="Account that the time is charged to (sacctmgr show associations).")
    qos: str = Field("", description="Quality of service.")
    constraint: str = Field("", description="Features that a node must have, as sbatch --constraint takes them.")
    reservation: str = Field("", description="Reservation to run in.")
    exclude: str = Field("", description="Nodes to stay away from, as in node[3,17].")
    gpus: str = Field("", description="GPUs of one node, by type as in h100:8, or 8; empty on nodes without GPUs.")
    tasks_per_node: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Processes of a run on one node; default: one for each GPU, else one."
    )
    cpus_per_task: Annotated[int, Field(gt=0)] = Field(1, description="CPU cores of one process.")
    memory_per_task: str = Field("", description="Memory of one process, as in 100G or 64000M.")
    time: Seconds = Field(3600.0, description="Time limit of one job, as in 8h; a run may take several jobs.")
    save_before: Seconds = Field(120.0, description="How long before its time limit a run is asked to save, as in 2m.")
    modules: tuple[str, ...] = Field((), description="Environment modules to load, as in [cuda/12.4].")
    container: str = Field(
        "",
        description="Line that a process is started in, as in 'apptainer exec --nv /shared/scaling.sif'; one that "
        "begins with --container is given to srun (Pyxis).",
    )
    python: str = Field("", description="Python of the nodes or the container; default: the launcher's own.")
    environment: dict[Name, str] = Field({}, description="Environment variables of every process.")
    nccl_interface: str = Field("", description="Network interface of NCCL, as in ib0 (NCCL_SOCKET_IFNAME).")
    gloo_interface: str = Field("", description="Network interface of gloo, as in eth0 (GLOO_SOCKET_IFNAME).")
    setup: tuple[str, ...] = Field((), description="Lines of bash that run on the first node before training.")
    sbatch: dict[str, str | bool] = Field(
        {}, description="Further options of sbatch by name, as in {licenses: 'fs:1', contiguous: true}."
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _gpus(cls, value: object) -> object:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and text and not re.fullmatch(r"([A-Za-z0-9_.-]+:)?[1-9]\d*", text):
            raise ValueError("it must be a number above zero, or a type and a number as in h100:8")
        return text

    @field_validator("memory_per_task")
    @classmethod
    def _memory(cls, value: str) -> str:
        if value and not re.fullmatch(r"[1-9]\d*[MGT]", value):
            raise ValueError("memory is a whole number with M, G or T, as in 100G")
        return value

    @field_validator("*")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        texts = value.values() if isinstance(value, dict) else (value,)
        if any(isinstance(text, str) and any(ord(letter) < 32 for letter in text) for text in texts):
            raise ValueError("it must be one line without control characters")
        return value

    @field_validator("environment", "sbatch", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: str(item) if type(item) in (int, float) else item for key, item in value.items()}

    @field_validator("sbatch")
    @classmethod
    def _foreign_options(cls, value: dict[str, str | bool]) -> dict[str, str | bool]:
        for name in value:
            if name in _OUR_OPTIONS:
                raise ValueError(f"the option {name} is set by the launcher or by a field of its own; leave it out")
        return value

    @field_validator("container")
    @classmethod
    def _container(cls, value: str) -> str:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"the line does not split into words ({error})") from error
        return value

    @model_validator(mode="after")
    def _time_to_save(self) -> Self:
        if self.save_before >= self.time:
            raise ValueError(
                f"save_before ({self.save_before:g} s) leaves nothing of time ({self.time:g} s); lower it or raise time"
            )
        return self

    @property
    def gpu_type(self) -> str:
        """`h100:`, with the colon of `--gres=gpu:h100:8`; empty where the type does not matter."""
        return "".join(self.gpus.rpartition(":")[:2])

    @property
    def memory_mib_per_task(self) -> int | None:
        """Mebibytes, which Slurm calls M; None leaves it to Slurm."""
        if not self.memory_per_task:
            return None
        return int(self.memory_per_task[:-1]) * {"M": 1, "G": 1024, "T": 1024**2}[self.memory_per_task[-1]]

    @property
    def gpus_per_node(self) -> int:
        return int(self.gpus.rpartition(":")[2] or 0)

    @property
    def processes_per_node(self) -> int:
        """Tasks of a node where a study does not say: one a GPU."""
        return self.tasks_per_node or self.gpus_per_node or 1


def load_profile(path: Path) -> Profile:
    """Read and validate a profile; UserError names file, line, field, value and rule."""
    if not path.is_file():
        raise UserError(
            f"launch.slurm.profile: {path} is no file; name one of slurm/profiles, or copy one of them for your cluster"
        )
    document = load_document(path, form="a profile is a mapping such as 'partition: gpu'; see slurm/profiles/h100.yaml")
    data: dict[str, Any] = document.data
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise explain(error, document, Profile) from error
