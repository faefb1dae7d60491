"""What one run takes of a Ray cluster, and whether the cluster's nodes can hold it.

Ray says nothing of a run that no node can ever hold: it waits for good. So what a run takes is compared here, node by
node, with what the cluster has. A bundle of its placement group is one node of the run, `launch.devices_per_node`
processes, so that "a node" means the same as with Slurm.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.errors import UserError
from scaling.launch.backends.base import Resources
from scaling.records.run_plan import Frozen
from scaling.spec.launch_spec import RaySection

Node = Mapping[str, Any]
"""One row of `ray.nodes()`: `NodeID`, `Alive`, `NodeManagerAddress`, `Resources`, `Labels`, ..."""

NODE_ID = "ray.io/node-id"
"""The label that Ray itself gives to each node."""


class Shape(Frozen):
    """Resources of one run."""

    nodes: int
    processes_per_node: int
    num_cpus: float
    """Of one process, as are GPUs and custom resources."""
    num_gpus: float
    memory_bytes: int | None
    """Of one node of the run."""
    resources: dict[str, float]
    labels: dict[str, str]
    strategy: str

    @property
    def num_processes(self) -> int:
        return self.nodes * self.processes_per_node

    @property
    def threads(self) -> int:
        """CPU threads of one process."""
        return max(1, int(self.num_cpus))

    def bundle(self) -> dict[str, float]:
        """What one node of the run takes, by Ray's names."""
        each = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        # Ray counts in ten-thousandths.
        whole = {name: round(self.processes_per_node * number, 4) for name, number in each.items() if number}
        return whole | ({"memory": float(self.memory_bytes)} if self.memory_bytes else {})

    def describe(self) -> str:
        """In words, as one node of it: `2 nodes with CPU 4, GPU 4 each`."""
        wants = ", ".join(_shown(name, number) for name, number in self.bundle().items())
        labels = "".join(f", label {name}: {value}" for name, value in self.labels.items())
        return f"{self.nodes} nodes ({self.strategy}) with {wants} each{labels}" if self.nodes > 1 else wants + labels


def shape_of(section: RaySection, need: Resources, has_gpus: bool) -> Shape:
    """The shape of every run of a study; UserError when its parts contradict each other."""
    num_gpus = section.num_gpus if section.num_gpus is not None else float(has_gpus)
    if 0 < num_gpus < 1 and need.devices > 1:
        raise UserError(
            f"launch.ray.num_gpus: {num_gpus:g} of a GPU is for runs of one process, and these have {need.devices}; "
            "write 1, or 0 for the CPU"
        )
    return Shape(
        nodes=need.nodes,
        processes_per_node=need.devices_per_node,
        num_cpus=section.num_cpus or float(need.cpus or 1),
        num_gpus=num_gpus,
        memory_bytes=None if need.memory_gb is None else int(need.memory_gb * 1e9),
        resources=section.resources,
        labels=section.labels,
        strategy=section.strategy,
    )


def can_hold(shape: Shape, nodes: Sequence[Node], avoid: Sequence[str] = ()) -> bool:
    """Whether living nodes could hold the run if they were idle; `avoid` are node ids that shall not be used."""
    rooms = [_room(shape, node) for node in nodes if node["Alive"] and node["NodeID"] not in avoid]
    if shape.strategy == "STRICT_SPREAD":
        return sum(room > 0 for room in rooms) >= shape.nodes
    if shape.strategy == "STRICT_PACK":
        return max(rooms, default=0) >= shape.nodes
    return sum(rooms) >= shape.nodes


def describe_nodes(nodes: Sequence[Node]) -> str:
    """What the cluster has: `3 nodes: 2 x (CPU 8, GPU 1), 1 x (CPU 4)`."""
    kinds = Counter(_describe_node(node) for node in nodes if node["Alive"])
    listed = ", ".join(f"{count} x ({kind})" for kind, count in kinds.most_common(8))
    number = sum(kinds.values())
    return f"{number} node{'s' * (number != 1)}: {listed}" if kinds else "no node"


def has_gpus(nodes: Sequence[Node]) -> bool:
    return any(node["Alive"] and node["Resources"].get("GPU") for node in nodes)


def fits_label(wanted: str, value: str | None) -> bool:
    """Ray's label selectors: `value`, `!value`, `in(a,b)`, `!in(a,b)`; an absent label is unlike every value."""
    negated = wanted.startswith("!")
    rest = wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", rest)
    values = [part.strip() for part in listed[1].split(",")] if listed else [rest]
    return (value in values) != negated


def _room(shape: Shape, node: Node) -> int:
    """How many nodes of the run fit on one node of the cluster."""
    labels = node.get("Labels") or {}
    if not all(fits_label(wanted, labels.get(name)) for name, wanted in shape.labels.items()):
        return 0
    return min(int(node["Resources"].get(name, 0) / number + 1e-6) for name, number in shape.bundle().items())


def _describe_node(node: Node) -> str:
    own = {name: number for name, number in node["Resources"].items() if _is_of_interest(name)}
    labels = {name: value for name, value in (node.get("Labels") or {}).items() if name != NODE_ID}
    parts = [_shown(name, own[name]) for name in sorted(own)]
    return ", ".join(parts + [f"{name}: {value}" for name, value in sorted(labels.items())])


def _is_of_interest(name: str) -> bool:
    return not name.startswith(("node:", "object_store_memory"))


def _shown(name: str, number: float) -> str:
    return f"memory {number / 1e9:.3g} GB" if name == "memory" else f"{name} {number:g}"
