"""Fine-tuning follows its pre-training run on a real Slurm and on a Ray as it does on this machine: the same runs, the
same numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scaling.records.evaluation import Evaluation
from scaling.records.study import read_study
from tests.launch.backends.ray.lab import MARK, wait_until_gone
from tests.launch.backends.slurm.lab import needs_slurm, running_lab

SWEEP = """\
study: fine
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 6, batch: 16}}
defaults: {{learning_rate: 2.0e-3, warmup: 10%, validate_every: 50%}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - kind: finetune
    name: colours
    train: train.json
    test: val.json
    steps: 6
    batch: 16
    learning_rates: [0.01, 0.03]
    seeds: [0]
launch: {{local: {{threads: 1}}, slurm: {{poll: 1s, time: 10m, cpus: 1}}, ray: {{num_cpus: 1, num_gpus: 0}}}}
"""


@pytest.fixture(scope="module")
def sweep(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "fine.yaml"
    path.write_text(SWEEP.format(root=json.dumps(str(tiny_data))))
    return path


def scores(sweep: Path, backend: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What a launch on this back end leaves: the weights of every run by its name, and the record's numbers."""
    out = sweep.parent / backend
    command = [sys.executable, "-m", "scaling.launch", str(sweep), "--backend", backend, "--out", str(out)]
    answer = subprocess.run(
        [*command, "--no-report"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=sweep.parent,
    )
    assert answer.returncode == 0, answer.stderr
    runs = read_study(out / "fine").runs
    (trained,) = [run for run in runs if not run.plan.serves]
    record = Evaluation.load(trained.run_dir, "colours")
    assert record is not None and len(runs) == 4
    assert trained.evaluations["colours"] == record
    weights = {run.plan.run_id: run.result.weights_sha256 for run in runs if run.result is not None}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in record.rows]
    return {"weights": weights, "metrics": record.metrics, "rows": rows}


@pytest.fixture(scope="module")
def here(sweep: Path) -> Iterator[dict[str, Any]]:
    found = scores(sweep, "local")
    assert len(found["weights"]) == 4 and sum(row.get("taken", False) for row in found["rows"]) == 1
    yield found


@needs_slurm
def test_on_slurm(sweep: Path, here: dict[str, Any], tmp_path: Path) -> None:
    with running_lab(tmp_path / "slurm", "--nodes", "1", "--cpus", "2") as lab:
        assert scores(sweep, "slurm", lab.environment) == here


def test_on_a_ray_of_the_launchers_own(sweep: Path, here: dict[str, Any], tmp_path: Path) -> None:
    mark = f"finetuning-{os.getpid()}-{tmp_path.name}"
    assert scores(sweep, "ray", os.environ | {MARK: mark}) == here
    wait_until_gone(mark)
