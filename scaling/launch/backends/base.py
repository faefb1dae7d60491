"""The job contract: what the launcher asks of a place where runs are executed, and what that place promises.

The job looks after itself. A back end submits run directories, finds them again, says where they stand and cancels
them; restarting a run that was pre-empted or lost is done beside the job (by the scheduler's own requeue, by a
supervisor, or by the local back end's `poll`), by the one policy of `scaling.records`. So a launcher may leave at any
time, and the next one finds everything again: nothing that only a launcher's memory knows is ever needed.

A back end keeps three promises:

    intent before the act   what is submitted is on disk before it is, so that a launcher that dies in between leaves
                            nothing that nobody knows of
    unknown is not gone     a query that failed says `unknown`; only a scheduler that answered and has no such job
                            says `gone`, and then the run directory alone is the truth
    cancel stays cancelled  a request to stop (`records.ownership.stop_request`) is written before a job is asked to
                            leave, and a run with one is never requeued; `submit` removes it

Back ends never import each other. Those of this package stand in `BACKENDS`; an installed package adds its own by an
entry point of the group `scaling.backends`:

    [project.entry-points."scaling.backends"]
    pbs = "my_package.pbs:PbsBackend"

whose settings are the section `launch.pbs` of a sweep, validated by the class's attribute `settings`.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import ValidationError

from scaling.errors import UserError, did_you_mean
from scaling.records.attempts.causes import Cause, Decision, Verdict, decide
from scaling.records.attempts.ends import read_ends
from scaling.records.ownership.stop_request import StopCause, requested_stop
from scaling.records.state import RunState, Status
from scaling.spec.launch_spec import ENTRY_POINTS, LaunchSpec

BACKENDS = {
    "local": "scaling.launch.backends.local.backend:LocalBackend",
    "slurm": "scaling.launch.backends.slurm.backend:SlurmBackend",
    "ray": "scaling.launch.backends.ray.backend:RayBackend",
}
"""Name in a sweep's `launch.backend` -> class. A module is imported only when its back end is chosen."""

Phase = Literal["queued", "running", "ended", "gone", "unknown"]
"""queued: submitted and waiting (for nodes, for a slot, for a requeue). running: its processes were started.
ended: the back end knows that it ended and will not start it again; the run directory says how. gone: the back end
answered and has no such job. unknown: the back end did not answer; ask again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one run needs, wherever it is executed; from the section `launch` of a sweep."""

    nodes: int = 1
    devices_per_node: int = 1
    """Training processes of a node; each has one GPU where there are GPUs."""
    cpus: int | None = None
    """CPU cores of one process; None leaves it to the back end."""
    memory_gb: float | None = None
    """Memory of one node, 10^9 bytes; None leaves it to the back end."""
    seconds: float | None = None
    """Wall time after which a job may be stopped; None leaves it to the back end. The run itself may take several."""

    @property
    def devices(self) -> int:
        """Processes that train one run together."""
        return self.nodes * self.devices_per_node

    @classmethod
    def of(cls, launch: LaunchSpec) -> Self:
        """What the section `launch` of a sweep asks for."""
        return cls(
            nodes=launch.nodes,
            devices_per_node=launch.devices // launch.nodes,
            cpus=launch.cpus,
            memory_gb=launch.memory,
            seconds=launch.time,
        )


@dataclass(frozen=True, slots=True)
class Handle:
    """One submitted run as its back end knows it."""

    run_dir: Path
    backend: str
    nonce: str
    """Names the batch it was submitted in: `study/jobs/<nonce>.json`."""
    index: int
    """Its place in that batch."""
    job: str | None
    """The back end's own name: `17_0` of Slurm, an actor's name, a process id; None while that is not known."""


@dataclass(frozen=True, slots=True)
class Look:
    """Where one job stands, in words a person reads in the list of runs."""

    phase: Phase
    cause: str = ""
    """Why it ended, as `scaling.records` names causes; empty while it has not."""
    reason: str = ""
    """Why it waits or what went wrong, in the back end's own words: `JobHeldUser`, `all cores are in use`."""
    where: str = ""
    """Node and job, for a person who wants to look: `node12 17_0`."""
    is_stuck: bool = False
    """Whether it may stay so until a person acts, for the reason given: held, impossible, hung, nobody answers."""


class Backend(Protocol):
    """One place where runs are executed. Made from a validated `LaunchSpec`; making one starts nothing."""

    scheduler: str
    """Whose jobs keep running when the launcher leaves, as people call it: `Slurm`; empty where they end with it."""

    poll_seconds: float
    """How long to wait between two polls: 0.2 on this machine, 15 to 30 with Slurm."""

    def check(self, need: Resources) -> None:
        """UserError at once when no node could ever hold such a run; called before anything is written."""

    def submit(self, run_dirs: Sequence[Path], cap: int | None) -> list[Handle]:
        """Hand over runs of one study as one batch, at most `cap` of them running at a time; returns at once.

        Run directories are absolute and hold a `run.json`. The intent is on disk before anything is submitted and the
        handles after; a run that is submitted already is adopted, not started a second time. Handles come in the order
        of `run_dirs`. UserError when the scheduler refuses the batch, with its words.
        """

    def adopt(self, study_dir: Path) -> list[Handle]:
        """Every job of this study that may still run, also of launchers that died between intent and handle."""

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        """Every job of this study that was submitted or adopted, by run directory, in one query."""

    def cancel(self, run_dirs: Sequence[Path], cause: StopCause = Cause.CANCELLED) -> None:
        """Write the markers, which say whether a person or a search wants it, then ask these runs to save a checkpoint,
        leave and not come back; returns at once."""

    def close(self, *, detach: bool) -> None:
        """The launcher leaves. Detached, the jobs keep running; else those of this launcher that need it (runs on
        this machine) are asked to save and are waited for, and jobs of a scheduler keep running as well."""


class BackendClass(Protocol):
    """What `BACKENDS` and the entry points name: a class, made from the section `launch` of a study."""

    settings: Any
    """The pydantic model of the section `launch.<name>`."""

    def __call__(self, launch: LaunchSpec, need: Resources) -> Backend: ...


def backend_names() -> list[str]:
    """All back ends that can be chosen, those of installed packages too."""
    return sorted({*BACKENDS, *(point.name for point in metadata.entry_points(group=ENTRY_POINTS))})


def find_backend(name: str) -> BackendClass:
    """The class behind a name; UserError with the nearest name when there is none, or when its library is missing."""
    if name in BACKENDS:
        module, _, attribute = BACKENDS[name].partition(":")
        try:
            found: BackendClass = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise UserError(f"launch.backend: {name}: the package {error.name!r} is missing; install it") from error
        return found
    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        loaded: BackendClass = point.load()
        return loaded
    raise UserError(f"launch.backend: {name!r} is no back end; {did_you_mean(name, backend_names())}")


def check_choice(launch: LaunchSpec) -> None:
    """UserError when there is no such back end, or when the section of one that a package adds does not fit.

    Nothing of a back end of ours is imported, so that a study for a cluster is planned where that has no software.
    """
    if launch.backend in BACKENDS:
        return
    section = launch.section(launch.backend)
    try:
        find_backend(launch.backend).settings.model_validate(section)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("launch", launch.backend, *first["loc"]))
        raise UserError(f"{where}: {first['input']!r}: {first['msg']}") from error


def make_backend(launch: LaunchSpec) -> Backend:
    """The back end that a sweep names, ready to be asked."""
    return find_backend(launch.backend)(launch, Resources.of(launch))


TELLING = (Cause.DONE, Cause.FAILED, Cause.DIVERGED, Cause.BAD_INPUT, Cause.CANCELLED, Cause.PRUNED)
"""Ends that say by themselves where the run stands."""

AGAIN = (Verdict.RETRY_FREE, Verdict.RETRY_COUNTED)


def next_step(run_dir: Path, retries: int) -> Decision:
    """What follows from the ends of a run; one that is given up is recorded as failed, with the reason.

    A run with a request to stop is given up whatever its ends say.
    """
    ends = read_ends(run_dir).counted
    decision = decide(ends, retries)
    if decision.verdict in AGAIN and requested_stop(run_dir):
        return Decision(Verdict.GIVE_UP, "was asked to stop")
    if decision.verdict is Verdict.GIVE_UP and ends and ends[-1].cause not in TELLING:
        state = RunState.load(run_dir)
        state.model_copy(update={"status": Status.FAILED, "error": decision.reason}).save(run_dir)
    return decision
