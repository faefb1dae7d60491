"""The section `launch` of a sweep: what one run needs, and one section for each back end.

None of it is part of a run's identity or plan, but the number of devices, which decides how a batch is divided: the
same study may be planned on a laptop and executed on a cluster. Times are seconds, or a number with s, m, h or d
(`90m`, `8h`); memory is 10^9 bytes, or a number with MB, GB or TB.
"""

import re
from importlib import metadata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from scaling.errors import did_you_mean
from scaling.records.attempts.contract import Execution
from scaling.records.run_plan import Frozen
from scaling.spec.document import Document
from scaling.spec.settings import holds_switch

ENTRY_POINTS = "scaling.backends"
"""Entry points of installed packages: the name of a back end and its class."""

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

GIGABYTES = {"MB": 1e-3, "GB": 1.0, "TB": 1e3}


def _quantity(value: Any, units: dict[str, float], bare: str, example: str) -> float:
    """A positive number with one of the units, or a bare one in the unit `bare`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    unit = (found[2] or bare) if found else ""
    if isinstance(value, bool) or found is None or unit not in units or not float(found[1]) > 0:
        raise ValueError(f"write a number above 0 and one of {', '.join(units)}, for example {example}")
    return float(found[1]) * units[unit]


Seconds = Annotated[float, BeforeValidator(lambda value: _quantity(value, SECONDS, "s", "8h"))]

Gigabytes = Annotated[float, BeforeValidator(lambda value: _quantity(value, GIGABYTES, "GB", "64GB"))]

Count = Annotated[int, Field(gt=0, le=100_000)]


class LocalSection(Frozen):
    """Runs on this machine."""

    max_parallel: Count | None = Field(
        None, description="Runs at a time; default: as many as the machine has room for."
    )
    threads: Count | None = Field(
        None, description="CPU threads of one process; default: launch.cpus, or the machine's cores shared evenly."
    )


class SlurmShape(Frozen):
    """What a run takes of a Slurm cluster; what is left out comes from `launch`, then from the profile."""

    nodes: Count | None = Field(None, description="Nodes of one run; default: launch.nodes.")
    devices_per_node: Count | None = Field(
        None,
        description="Processes of a run on each node; default: launch.devices_per_node, else one for each GPU of the "
        "profile's nodes.",
    )
    cpus: Count | None = Field(None, description="CPU cores of one process; default: launch.cpus, else the profile's.")
    memory: Gigabytes | None = Field(
        None, description="Memory of a run on one node, for example 64GB; default: launch.memory, else the profile's."
    )
    time: Seconds | None = Field(
        None, description="Time limit of one job, for example 8h; default: launch.time, else the profile's."
    )


MATCHABLE = ("model", "fraction", "seed", "image_size")
"""Fields of a run that `launch.slurm.overrides` may match."""


def _is_matchable(match: dict[str, Any]) -> dict[str, Any]:
    for name, wanted in match.items():
        if name not in MATCHABLE:
            raise ValueError(f"{name!r} is nothing it can match; match one of {', '.join(MATCHABLE)}")
        if holds_switch(wanted):
            raise ValueError(f"{name} is not a switch; write its value")
    return match


class SlurmOverride(Frozen):
    """Where every field of `match` fits a run, `set` applies to it."""

    match: Annotated[dict[str, Any], AfterValidator(_is_matchable)] = Field(
        description=f"Among {', '.join(MATCHABLE)}; texts may hold * and ?."
    )
    set: SlurmShape


class SlurmSection(SlurmShape):
    """Runs as tasks of Slurm job arrays, one array for each resource shape."""

    profile: str = Field("", description="What the cluster's nodes are: a file such as slurm/profiles/h100.yaml.")
    max_parallel: Count | None = Field(None, description="Tasks of an array that run at a time; default: no bound.")
    poll: Seconds = Field(20.0, description="Time between two queries of Slurm while the launcher watches.")
    hung_after: Seconds | None = Field(
        None,
        description="A run whose heartbeat stands still for so long is asked to save, killed and queued again, for "
        "example 30m; default: it is named only.",
    )
    overrides: list[SlurmOverride] = Field([], description="Resources of some of the runs, in the order written.")


class RaySection(Frozen):
    """Runs on a Ray cluster, or on a Ray that the launcher starts on this machine."""

    address: str | None = Field(
        None,
        description="The head of a running cluster as HOST:PORT, or auto for the one that this machine belongs to; "
        "default: a Ray of the launcher's own on this machine.",
    )
    max_parallel: Count | None = Field(None, description="Runs at a time; default: as many as the cluster holds.")
    num_cpus: float | None = Field(
        None, gt=0, description="CPUs of one process, may be a fraction; default: launch.cpus, else 1."
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        le=1,
        description="GPUs of one process; 0.25 lets four runs of one process share a GPU; default: 1 where nodes have "
        "GPUs, else 0.",
    )
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="Custom resources of one process, by the names that the cluster gives them."
    )
    labels: dict[str, str] = Field(
        {}, description="Labels of the nodes to take, in Ray's form: value, !value, in(a,b) or !in(a,b)."
    )
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = Field(
        "PACK",
        description="How the nodes of a run (launch.nodes, of launch.devices_per_node processes each) are placed on "
        "those of the cluster: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD, as Ray's placement groups have them.",
    )
    autoscaler: bool = Field(
        False, description="The cluster adds nodes on demand: a run that no node can hold waits for one."
    )
    dashboard: bool = Field(
        False, description="Start Ray's dashboard on this machine, for the launcher's own Ray; needs ray[default]."
    )
    poll: Seconds = Field(2.0, description="Time between two looks at the cluster while the launcher watches.")

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address not in (None, "auto") and not re.fullmatch(r"[\w.-]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}", address):
            raise ValueError("write the head's HOST:PORT (not ray://), for example 10.0.0.7:6379, or auto")
        return address

    @field_validator("resources")
    @classmethod
    def _are_custom(cls, resources: dict[str, float]) -> dict[str, float]:
        reserved = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "launch.memory"}
        for name in resources:
            if name.lower() in reserved:
                raise ValueError(f"{name} is no custom resource; write {reserved[name.lower()]}")
        return resources


class LaunchSpec(BaseModel):
    """How and where runs are executed. A back end of an installed package has a section of its own name."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    backend: str = Field("local", description="Where runs are executed: local, slurm, ray or that of a package.")
    devices_per_run: Count | None = Field(
        None, description="Processes that train one run together; default: nodes * devices_per_node."
    )
    nodes: Count = Field(1, description="Nodes of one run.")
    devices_per_node: Count | None = Field(
        None, description="Processes of one run on each of its nodes, one GPU each; default: 1."
    )
    cpus: Count | None = Field(None, description="CPU cores of one process; default: the back end's.")
    memory: Gigabytes | None = Field(None, description="Memory of one node of a run, for example 64GB.")
    time: Seconds | None = Field(
        None, description="Wall time after which a job of a cluster is stopped, saved and queued again, such as 8h."
    )
    loader_threads: Count | None = Field(
        None,
        description="Threads that decode images for one process; default: the cores of that process but those of its "
        "arithmetic, at most 16, or 16 for each of loader_processes.",
    )
    loader_processes: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="Processes over which these threads are spread, where one interpreter cannot hand out images fast "
        "enough: about one for each 4,000 images/s; 0: the training process has them.",
    )
    pixel_cache: Gigabytes | None = Field(
        None,
        description="Memory of a node in which a run remembers decoded training images, shared by its processes, for "
        "example 40GB: with room for all of a subset each is decoded once; default: 512 MiB for each process.",
    )
    retries: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="How often a run whose process or node was lost is started again; pre-emption is free."
    )
    reproduce: Literal["loose", "exact"] = Field(
        "loose",
        description="A run continued or trained again with other threads, devices or library versions gets other "
        "roundings: loose trains it and says so in log, result and report, exact refuses.",
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        (), description="List of dashboards that follow every run: tensorboard, wandb, mlflow, trackio; default: []."
    )
    price_per_device_hour: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        None, description="Money for one device and hour, told in dry run and report; needs currency."
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = Field(
        None, description="Of price_per_device_hour, three letters of ISO 4217 such as USD or EUR."
    )
    throughput: Literal["after"] | None = Field(
        None,
        description="after: when the runs have ended, measure the inference throughput of each model once, alone on "
        "this machine (scaling.bench inference --study); of a study on a cluster, do that on one of its nodes.",
    )
    local: LocalSection = LocalSection()
    slurm: SlurmSection = SlurmSection()
    ray: RaySection = RaySection()

    @model_validator(mode="after")
    def _devices_agree(self) -> Self:
        wanted, nodes, per_node = self.devices_per_run, self.nodes, self.devices_per_node
        if wanted is not None and (wanted % nodes or per_node not in (None, wanted // nodes)):
            shown = f"nodes: {nodes}" + (f" and devices_per_node: {per_node}" if per_node else "")
            raise ValueError(
                f"devices_per_run: {wanted} is not what {shown} give; leave devices_per_run out and write nodes and "
                "devices_per_node"
            )
        return self

    @model_validator(mode="after")
    def _loaders_agree(self) -> Self:
        if self.loader_threads is not None and self.loader_threads < self.loader_processes:
            raise ValueError(
                f"loader_threads: {self.loader_threads} are too few for loader_processes: {self.loader_processes}, of "
                "which each needs one; raise or leave out loader_threads"
            )
        return self

    @model_validator(mode="after")
    def _price_has_currency(self) -> Self:
        if (self.price_per_device_hour is None) != (self.currency is None):
            given, missing = ("currency", "price_per_device_hour: 2.5") if self.currency else ("price", "currency: USD")
            raise ValueError(f"a {given} alone says nothing; add for example {missing}")
        return self

    @property
    def devices(self) -> int:
        """Processes that train one run together."""
        return self.devices_per_run or self.nodes * (self.devices_per_node or 1)

    def execution(self, threads: int | None = None) -> Execution:
        """How each process of a run is executed, with `threads` of arithmetic."""
        return Execution(
            threads=threads,
            loader_threads=self.loader_threads,
            loader_processes=self.loader_processes,
            pixel_cache_gb=self.pixel_cache,
        )

    def section(self, backend: str) -> Any:
        """The settings of a back end: the model of a built-in one, or what the sweep holds for another (a dict)."""
        return getattr(self, backend, None) or {}


def check_sections(launch: LaunchSpec, document: Document) -> None:
    """UserError for a key of `launch` that is neither ours nor the section of a back end that a package adds."""
    for key in launch.model_extra or {}:
        if key in LocalSection.model_fields:
            raise document.error(
                ("launch", key), f"it belongs to a back end; write launch.{launch.backend}.{key} (--set or YAML)"
            )
        if not metadata.entry_points(group=ENTRY_POINTS, name=key):
            raise document.error(("launch", key), f"unknown key; {did_you_mean(key, LaunchSpec.model_fields, 30)}")
