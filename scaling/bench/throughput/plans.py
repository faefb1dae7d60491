"""Which models are measured: those named, or those of a study as it trains them."""

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scaling.errors import UserError
from scaling.models.registry import check_name
from scaling.plan.planner import Planner
from scaling.records.run_plan import RunPlan
from scaling.records.study import RunRecord, read_study
from scaling.spec.study import load_study

NUM_CLASSES = 1000

MANIFEST = {"schema": 1, "declared": True, "name": "none", "label_type": "single", "num_samples": 1_000_000}

SWEEP = """\
study: throughput
data: {{root: {root}, train: train.json, val: train.json}}
protocol: {{kind: constant_steps, steps: 1000, batch: 256}}
grid: {{model: {models}}}
"""


def plans_of_models(names: Sequence[str], settings: Sequence[str]) -> list[RunPlan]:
    """A plan of each model with 1,000 classes and the defaults of a sweep; `settings` are `key=value` as in
    `scaling.launch --set`."""
    for name in names:
        check_name(name)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.json").write_text(json.dumps({**MANIFEST, "num_classes": NUM_CLASSES}))
        sweep = Path(folder) / "throughput.yaml"
        models = json.dumps(list(dict.fromkeys(names)))
        sweep.write_text(SWEEP.format(root=json.dumps(folder), models=models))
        study, document = load_study(sweep, settings)
        return Planner(study, document).plan()


def trained_runs(study_dir: Path) -> list[RunRecord]:
    """The finished runs of a study that are points of its figures; UserError when there is none."""
    known = read_study(study_dir).runs
    runs = [run for run in known if run.result is not None and run.in_plan and run.plan.is_point]
    if not runs:
        raise UserError(f"{study_dir}: no run is finished, so its models are not known to train; launch it first")
    return runs


def threads_of(runs: Sequence[RunRecord]) -> int:
    """Threads of most of the runs."""
    return statistics.mode(run.result.threads for run in runs if run.result is not None)
