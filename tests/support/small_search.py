"""A search of two trials, launched by the command line on any back end, and what two launches of it agree in."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scaling.records.attempts.causes import Cause
from scaling.records.scores.search import cells_of
from scaling.records.state import Status
from scaling.records.study import RunRecord, read_study
from tests.support.tiny_study import TINY_SWEEP

TUNE = """\
tune:
  space: {learning_rate: {choice: [1.0e-2, 1.0e-5]}}
  search: grid
  scheduler: asha
  reduction_factor: 2
"""
"""The second trial is out at its first validation, if that is seen before it ends."""

SETTINGS = (
    *("protocol.steps=40", "defaults.validate_every=5", "evals=[]", "launch.local.threads=1"),
    *("launch.slurm.poll=1s", "launch.slurm.time=10m", "launch.ray.poll=1s"),
)


def launch_search(folder: Path, data: Path, backend: str, environment: Mapping[str, str]) -> Path:
    """Launch it until it has ended; its study's folder."""
    folder.mkdir(exist_ok=True)
    sweep = folder / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(data))) + TUNE)
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "scaling.launch", str(sweep), *changes, "--backend", backend, "--no-report"]
    ended = subprocess.run(
        [*command, "--out", str(folder / "runs")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,  # Others may hold the cores first.
        cwd=folder,
    )
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "tiny"


def assert_same_search(one: Path, other: Path) -> Path:
    """The same trials, the same of them out, and the same choice, to the last digit; the name of the final run."""
    first, second = (read_study(folder).runs for folder in (one, other))
    assert [run.plan.run_id for run in first] == [run.plan.run_id for run in second]
    assert _stops(first) == _stops(second) == [None, 0]
    (final,) = [run.plan for run in first if run.plan.trial is None]
    assert final.choice is not None and final.choice.values == {"learning_rate": 1e-2}
    assert [run.plan.choice for run in first] == [run.plan.choice for run in second]
    for run in (*first, *second):
        last = run.standing.ends.last
        assert last is not None and last.cause in (Cause.DONE, Cause.PRUNED)
        assert (last.cause is Cause.PRUNED) == (run.standing.status is Status.PRUNED)
    return Path(final.run_id)


def _stops(runs: list[RunRecord]) -> list[int | None]:
    (trials,) = cells_of(runs).values()
    return [trial.stopped_at for trial in trials]
