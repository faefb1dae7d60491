"""Fixtures: a cluster of two nodes for one test, and a study that is launched inside its network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launch.backends.ray.lab import HEAD, Cluster, two_nodes
from tests.launch.backends.ray.study import Study

MakeStudy = Callable[..., Study]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with two_nodes(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def make_study(cluster: Cluster, tiny_data: Path, tmp_path: Path) -> MakeStudy:
    """`make_study("launch.ray.num_gpus=0", name="a")`: a study with these settings, in a folder of that name."""

    def make(*settings: str, name: str = "study") -> Study:
        on_cluster = (f"launch.ray.address={HEAD}", "launch.ray.poll=1s")
        return Study(tmp_path / name, tiny_data, cluster.mark, (*on_cluster, *settings), cluster.inside)

    return make
