"""Whether nodes can hold a run, compared with every way of placing it; Ray's label selectors; what is refused."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scaling.errors import UserError
from scaling.launch.backends.base import Resources
from scaling.launch.backends.ray.shape import Shape, can_hold, describe_nodes, fits_label, shape_of
from scaling.spec.launch_spec import LaunchSpec, RaySection


def node(name: str, cpus: float, gpus: float = 0, *, alive: bool = True, **labels: str) -> dict[str, Any]:
    """One row of `ray.nodes()`, as far as it is read; Ray leaves out what a node has none of."""
    resources = {"CPU": cpus, "GPU": gpus, f"node:{name}": 1.0}
    resources = {key: value for key, value in resources.items() if value}
    return {"NodeID": name, "Alive": alive, "Resources": resources, "Labels": labels}


def shape(**changes: Any) -> Shape:
    section = {key: value for key, value in changes.items() if key in RaySection.model_fields}
    need = {key: value for key, value in changes.items() if key not in section}
    return shape_of(RaySection(**section), Resources(**need), has_gpus=False)


def can_place(wanted: Shape, cpus: list[float]) -> bool:
    """Try every node for every bundle."""
    each = wanted.bundle()["CPU"]
    for places in itertools.product(range(len(cpus)), repeat=wanted.nodes):
        used = [places.count(number) * each for number in range(len(cpus))]
        fits = all(taken <= have + 1e-6 for taken, have in zip(used, cpus, strict=True))
        kinds = len(set(places))
        allowed = {"STRICT_SPREAD": kinds == wanted.nodes, "STRICT_PACK": kinds == 1}.get(wanted.strategy, True)
        if fits and allowed:
            return True
    return False


@given(
    cpus=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5]), max_size=4),
    nodes=st.integers(1, 3),
    per_node=st.integers(1, 2),
    num_cpus=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    strategy=st.sampled_from(["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]),
)
def test_a_run_fits_when_some_placement_of_it_does(
    cpus: list[float], nodes: int, per_node: int, num_cpus: float, strategy: str
) -> None:
    wanted = shape(nodes=nodes, devices_per_node=per_node, num_cpus=num_cpus, strategy=strategy)
    cluster = [node(str(number), count) for number, count in enumerate(cpus)]
    assert can_hold(wanted, cluster) == can_place(wanted, cpus)


def test_nodes_that_are_dead_avoided_or_labelled_otherwise_hold_nothing() -> None:
    wanted = shape(num_cpus=1)
    assert can_hold(wanted, [node("a", 1)])
    assert not can_hold(wanted, [node("a", 1, alive=False)])
    assert not can_hold(wanted, [node("a", 1), node("b", 0)], avoid=["a"])
    assert can_hold(wanted, [node("a", 1), node("b", 1)], avoid=["a"])
    assert not can_hold(shape(labels={"zone": "b"}), [node("a", 1), node("b", 1, zone="c")])
    assert can_hold(shape(labels={"zone": "b"}), [node("a", 1), node("b", 1, zone="b")])
    assert not can_hold(shape(num_gpus=0.25), [node("a", 4)])
    assert can_hold(shape(num_gpus=0.25), [node("a", 4, 1)])


@pytest.mark.parametrize(
    ("wanted", "value", "fits"),
    [
        ("b", "b", True),
        ("b", "c", False),
        ("b", None, False),
        ("!b", "c", True),
        ("!b", "b", False),
        ("!b", None, True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", "a", False),
    ],
)
def test_label_selectors(wanted: str, value: str | None, fits: bool) -> None:
    assert fits_label(wanted, value) is fits


def test_a_bundle_is_one_node_of_the_run() -> None:
    need = Resources(nodes=2, devices_per_node=4, cpus=3, memory_gb=64)
    wanted = shape_of(RaySection(resources={"fast": 0.5}), need, has_gpus=True)
    assert wanted.bundle() == {"CPU": 12, "GPU": 4, "fast": 2, "memory": 64e9}
    assert wanted.num_processes == 8 and wanted.threads == 3
    assert shape_of(RaySection(num_cpus=0.5), Resources(), has_gpus=False).threads == 1
    assert describe_nodes([node("a", 2), node("b", 2), node("c", 1, 1)]) == "3 nodes: 2 x (CPU 2), 1 x (CPU 1, GPU 1)"


def test_processes_of_one_run_never_share_a_gpu() -> None:
    """NCCL refuses two processes on one GPU, long after the run was started."""
    with pytest.raises(UserError, match=r"launch\.ray\.num_gpus: 0\.5 of a GPU is for runs of one process"):
        shape_of(RaySection(num_gpus=0.5), Resources(devices_per_node=2), has_gpus=True)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"address": "ray://head:10001"}, "not ray://"),
        ({"address": "head"}, "HOST:PORT"),
        ({"num_gpus": 2}, "less than or equal to 1"),
        ({"num_cpus": 0}, "greater than 0"),
        ({"resources": {"GPU": 1}}, "write num_gpus"),
        ({"resources": {"fast": 0}}, "greater than 0"),
        ({"strategy": "SPRED"}, "STRICT_SPREAD"),
        ({"adress": "auto"}, "adress"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LaunchSpec.model_validate({"ray": section})


@pytest.mark.parametrize("address", ["auto", "10.0.0.7:6379", "head-1.cluster.local:6379", "[::1]:6379", None])
def test_addresses_of_heads(address: str | None) -> None:
    assert LaunchSpec.model_validate({"ray": {"address": address}}).ray.address == address
