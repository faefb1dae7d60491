"""Fixtures: a tiny real data set and studies on it that train in a second or two."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.data.format.index import expand_urls, index_shards
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.plan.planner import Planner
from scaling.spec.study import load_study
from tests.support.tiny_study import TINY_SWEEP, write_shards


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (200 pictures in 5 shards) and val.json (80 in 2)."""
    folder = tmp_path_factory.mktemp("tiny-data")
    for split, num_shards, seed in (("train", 5, 0), ("val", 2, 1)):
        write_shards(folder / split, num_shards, seed)
        index_shards(expand_urls([str(folder / split)]), folder / f"{split}.json", name=split)
    return folder


@pytest.fixture(scope="session")
def model_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counted FLOPs and parameters, shared by all tiny studies of a test session."""
    return tmp_path_factory.mktemp("facts") / "models.json"


PlanTiny = Callable[..., list[PlannedRun]]


@pytest.fixture
def plan_tiny(tiny_data: Path, model_facts: Path, tmp_path: Path) -> PlanTiny:
    """`plan_tiny("protocol.steps=9", name="a")` plans the tiny sweep with options into tmp_path/name."""

    def plan(*options: str, name: str = "study") -> list[PlannedRun]:
        sweep = tmp_path / "tiny.yaml"
        sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
        study, document = load_study(sweep, options)
        plans = Planner(study, document, threads_per_process=1).plan(model_facts)
        write_study(tmp_path / name, document, plans)
        return find_standings(tmp_path / name, plans)

    return plan
