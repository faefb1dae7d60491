"""What one run takes of a cluster: nodes, processes, cores, memory, time. Runs of one shape share a job array.

The most special word wins: an override of `launch.slurm.overrides` that fits the run, then `launch.slurm`, then
`launch`, then the profile.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.launch.backends.slurm.profile import Profile
from scaling.records.run_plan import RunPlan
from scaling.spec.document import Document
from scaling.spec.launch_spec import LaunchSpec, SlurmShape
from scaling.spec.rules import Rules


@dataclass(frozen=True, slots=True)
class Shape:
    """Resources of one run."""

    nodes: int
    tasks_per_node: int
    """Processes on each node; each has one GPU where the profile has GPUs."""
    cpus_per_task: int
    memory_mib: int | None
    """Memory on each node, in what Slurm calls M; None leaves it to Slurm."""
    minutes: int
    """Time limit of one job; Slurm counts in whole minutes."""

    def describe(self) -> str:
        memory = f", {self.memory_mib} MiB a node" if self.memory_mib else ""
        return (
            f"{self.nodes} nodes x {self.tasks_per_node} processes x {self.cpus_per_task} cores{memory}, "
            f"{self.minutes} minutes"
        )


def base_shape(launch: LaunchSpec, profile: Profile) -> Shape:
    """The shape of every run that no override changes."""
    section = launch.slurm
    nodes = section.nodes or launch.nodes
    planned = launch.devices_per_node or (launch.devices_per_run and launch.devices_per_run // launch.nodes)
    shape = Shape(
        nodes=nodes,
        tasks_per_node=section.devices_per_node or planned or profile.processes_per_node,
        cpus_per_task=launch.cpus or profile.cpus_per_task,
        memory_mib=None,
        minutes=_whole_minutes(launch.time or profile.time),
    )
    shape = _with_memory(shape, profile, launch.memory)
    return _check(_apply(shape, section, profile), profile)


def shape_of(plan: RunPlan, launch: LaunchSpec, profile: Profile) -> Shape:
    """The shape of one run; UserError when it asks for more than a node of the profile has."""
    shape = base_shape(launch, profile)
    rules = override_rules(launch)
    for override, place in zip(launch.slurm.overrides, rules.places, strict=True):
        if rules.fit([place], matched_values(plan)):
            shape = _apply(shape, override.set, profile)
    return _check(shape, profile)


def override_rules(launch: LaunchSpec) -> Rules:
    """What `launch.slurm.overrides` match, by their places in the sweep."""
    places = [("launch", "slurm", "overrides", position, "match") for position in range(len(launch.slurm.overrides))]
    return Rules({place: rule.match for place, rule in zip(places, launch.slurm.overrides, strict=True)}, None)


def matched_values(plan: RunPlan) -> dict[str, Any]:
    """What of a run such a rule may match (`launch_spec.MATCHABLE`)."""
    return {
        "model": plan.model.name,
        "fraction": plan.subset.fraction,
        "seed": plan.seed,
        "image_size": plan.model.image_size,
    }


def check_overrides(launch: LaunchSpec, document: Document, plans: Iterable[RunPlan]) -> None:
    """UserError for an override that fits none of these runs: some would get other resources than was meant."""
    rules = override_rules(launch)
    values = [matched_values(plan) for plan in plans]
    for one in values:
        rules.fit(rules.places, one)
    rules.check_each_fits(document, [one.get for one in values])


def group_by_shape(run_dirs: Sequence[Path], launch: LaunchSpec, profile: Profile) -> dict[Shape, list[Path]]:
    """Run directories by what their runs take, in the order given."""
    groups: dict[Shape, list[Path]] = {}
    plain = None if launch.slurm.overrides else base_shape(launch, profile)
    for run_dir in run_dirs:
        shape = plain or shape_of(RunPlan.load(run_dir), launch, profile)
        groups.setdefault(shape, []).append(run_dir)
    return groups


def _apply(shape: Shape, wish: SlurmShape, profile: Profile) -> Shape:
    changed = replace(
        shape,
        nodes=wish.nodes or shape.nodes,
        tasks_per_node=wish.devices_per_node or shape.tasks_per_node,
        cpus_per_task=wish.cpus or shape.cpus_per_task,
        minutes=_whole_minutes(wish.time) if wish.time else shape.minutes,
    )
    # What the profile gives each process follows the number of processes; what a study states for a node does not.
    follows = shape.memory_mib == _profile_memory(shape, profile)
    return _with_memory(changed, profile, wish.memory) if wish.memory or follows else changed


def _with_memory(shape: Shape, profile: Profile, gigabytes: float | None) -> Shape:
    stated = math.ceil(gigabytes * 1e9 / 2**20) if gigabytes else None
    return replace(shape, memory_mib=stated or _profile_memory(shape, profile))


def _profile_memory(shape: Shape, profile: Profile) -> int | None:
    each = profile.memory_mib_per_task
    return None if each is None else each * shape.tasks_per_node


def _whole_minutes(seconds: float) -> int:
    return max(1, math.ceil(seconds / 60))


def _check(shape: Shape, profile: Profile) -> Shape:
    if profile.gpus and shape.tasks_per_node > profile.gpus_per_node:
        raise UserError(
            f"launch: a run wants {shape.tasks_per_node} devices on each node, but the profile's nodes have "
            f"{profile.gpus_per_node} GPUs (gpus: {profile.gpus}); take more nodes and fewer devices_per_node"
        )
    if profile.save_before >= shape.minutes * 60:
        raise UserError(
            f"launch: a time limit of {shape.minutes} minutes leaves nothing to train, as a run is asked to save "
            f"{profile.save_before:g} s before it; raise time or lower save_before of the profile"
        )
    return shape
