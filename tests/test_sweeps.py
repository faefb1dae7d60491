"""Every sweep that ships is planned, on data that has its shape, and README's commands are the ones CI runs."""

import json
import re
from pathlib import Path

import pytest

from scaling.data.jft_like.config import JftLikeConfig
from scaling.data.manifest import declare_manifest
from scaling.launch.planner import Planner
from scaling.spec.study import Study, load_study

ROOT = Path(__file__).parent.parent
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_plan(path: Path, tmp_path: Path, model_facts: Path) -> None:
    study, _ = load_study(path)
    names = {study.data.train: 100_000, study.data.val: 10_000}
    sources = {value for spec in study.evals for value in (spec.model_extra or {}).values() if isinstance(value, str)}
    for name in {*names, *sources}:
        manifest = declare_manifest(name, "single" if name in sources else "multi", 20, names.get(name, 1000), tmp_path)
        body = {"schema": 1, "name": name, "label_type": manifest.label_type, "declared": True}
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(body | {"num_classes": 20, "num_samples": manifest.num_samples}))
    study, document = load_study(path, [f"data.root={tmp_path}"])
    plans = Planner(study, document, threads_per_process=1).plan(model_facts)
    assert len(plans) == len({plan.run_id for plan in plans}) >= 8
    assert all(plan.schedule.steps > 0 and plan.subset.num_samples > 0 for plan in plans)


def test_the_quickstart_is_the_study_that_the_readme_promises() -> None:
    study, _ = load_study(ROOT / "sweeps" / "quickstart.yaml")
    assert study.grid["fraction"] == [0.03, 0.1, 0.3, 1.0]
    assert len(study.grid["model"]) == 3 and len(study.grid["seed"]) >= 2
    assert study.protocol.kind == "constant_steps"
    assert JftLikeConfig(**(study.data.make or {})).num_train == 4000


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "scaling.launch sweeps/quickstart.yaml" in commands[0]
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_json_schema_describes_sweeps() -> None:
    schema = Study.model_json_schema()
    assert {"study", "data", "protocol"} <= set(schema["required"])
    assert "grid" in schema["properties"]
