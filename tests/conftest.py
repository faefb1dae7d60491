"""Fixtures: a tiny real data set and studies on it that train in a second or two."""

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest

# Workers share the cores, and threads that wait for each other on a core that another one has are slow without end.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hundreds of commands are started, each of which would compile our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from scaling.data.format.index import expand_urls, index_shards
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.models.__main__ import main as count
from scaling.plan import count_models
from scaling.plan.planner import Planner
from scaling.spec.study import load_study
from tests.support.stray_processes import kill_strays_of
from tests.support.tiny_study import TINY_SWEEP, write_shards


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failed test must not hold cores from those after it."""
    if report.failed:
        kill_strays_of(report.nodeid)


@pytest.fixture(scope="session", autouse=True)
def warm_server() -> Iterator[None]:
    """A process has one fork server, and what the first to start it wants imported is all that is: without PyTorch and
    DeepSpeed in it, every process that a later test trains with would import them for seconds."""
    prepare = forkserver.set_forkserver_preload
    prepare(["scaling.train.processes.preload"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            forkserver, "set_forkserver_preload", lambda names: prepare(["scaling.train.processes.preload", *names])
        )
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (200 images in 5 shards) and val.json (80 in 2)."""
    folder = tmp_path_factory.mktemp("tiny-data")
    for split, num_shards, seed in (("train", 5, 0), ("val", 2, 1)):
        write_shards(folder / split, num_shards, seed)
        index_shards(expand_urls([str(folder / split)]), folder / f"{split}.json", name=split)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a user's cache would keep between sessions is kept for this session alone, for started commands too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


PlanTiny = Callable[..., list[PlannedRun]]


@pytest.fixture
def plan_tiny(tiny_data: Path, tmp_path: Path) -> PlanTiny:
    """`plan_tiny("protocol.steps=9", name="a")` plans the tiny sweep with options into tmp_path/name."""

    def plan(*options: str, name: str = "study") -> list[PlannedRun]:
        sweep = tmp_path / "tiny.yaml"
        sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
        study, document = load_study(sweep, options)
        plans = Planner(study, document).plan()
        write_study(tmp_path / name, document, plans)
        return find_standings(tmp_path / name, plans)

    return plan


@pytest.fixture
def count_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are counted by the same command in this process: one that starts takes seconds to import PyTorch."""

    def run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert list(command[1:3]) == ["-m", "scaling.models"]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            code = count(command[3:])
        return subprocess.CompletedProcess(command, code, output.getvalue(), "")

    monkeypatch.setattr(count_models, "subprocess", SimpleNamespace(run=run))
