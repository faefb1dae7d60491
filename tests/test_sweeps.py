"""Every sweep that ships is planned, on data that has its shape, and README's commands are the ones CI runs."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scaling.data.format.manifest import declare_manifest
from scaling.errors import UserError
from scaling.jft_like.config import JftLikeConfig
from scaling.launch.command import main as launch
from scaling.launch.price.forecast import train_flops
from scaling.plan.planner import Planner
from scaling.records.run_plan import canonical_json
from scaling.spec.document import load_document
from scaling.spec.schema import SHIPPED, sweep_schema
from scaling.spec.settings import RunSettings
from scaling.spec.study import load_study
from tests.support.tiny_study import TINY_SWEEP

ROOT = Path(__file__).parent.parent
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_plan(path: Path, tmp_path: Path) -> None:
    study, _ = load_study(path)
    names = {study.data.train: 100_000, study.data.val: 10_000}
    sources = {value for spec in study.evals for value in (spec.model_extra or {}).values() if isinstance(value, str)}
    for name in {*names, *sources}:
        manifest = declare_manifest(name, "single" if name in sources else "multi", 20, names.get(name, 1000), tmp_path)
        body = {"schema": 1, "name": name, "label_type": manifest.label_type, "declared": True}
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(body | {"num_classes": 20, "num_samples": manifest.num_samples}))
    # A study whose data is declared beside it is planned as it stands: its recipe needs its size.
    ships_its_data = (ROOT / study.data.root / study.data.train).exists()
    study, document = load_study(path, [f"data.root={ROOT / study.data.root if ships_its_data else tmp_path}"])
    plans = Planner(study, document).plan()
    # A study that searches plans its trials elsewhere.
    assert len(plans) == len({plan.run_id for plan in plans}) >= (3 if study.tune else 8)
    assert all(plan.schedule.steps > 0 and plan.subset.num_samples > 0 for plan in plans)


def test_studies_that_make_their_images_make_the_quickstart_s_once_and_outside_of_the_sources() -> None:
    data = [load_study(path)[0].data for path in SWEEPS]
    assert {(Path(one.root).resolve(), canonical_json(one.make)) for one in data if one.make} == {
        (ROOT / "data" / "jft-like", canonical_json(load_study(ROOT / "sweeps" / "quickstart.yaml")[0].data.make))
    }


def test_the_quickstart_is_the_study_that_the_readme_promises() -> None:
    study, _ = load_study(ROOT / "sweeps" / "quickstart.yaml")
    assert study.grid["fraction"] == [0.03, 0.1, 0.3, 1.0]
    assert len(study.grid["model"]) == 3 and len(study.grid["seed"]) >= 2
    assert study.protocol.kind == "constant_steps"
    readme = (ROOT / "README.md").read_text()
    told = f"{float(study.protocol.steps.amount):,.0f} steps of {study.protocol.batch} images at every point"
    assert told in " ".join(readme.split())
    assert JftLikeConfig(**(study.data.make or {})).num_train == 4000


def test_the_data_size_study_is_the_papers_figure_2() -> None:
    """Subset sizes, epochs and steps as in Section 3.3 at 302 M images; costs as in ViT's Table 6, to its 2 %."""
    study, document = load_study(ROOT / "sweeps" / "data_size.yaml", [f"data.root={ROOT / 'sweeps' / 'jft-300m'}"])
    plans = Planner(study, document).plan()
    models = ["mixer-b/32", "mixer-l/32", "mixer-l/16", "vit-b/32", "vit-l/32", "vit-l/16", "bit-r152x2"]
    steps = {9_060_000: 515_376, 30_200_000: 516_113, 90_600_000: 508_740, 302_000_000: 516_113}
    epochs = {9_060_000: 233, 30_200_000: 70, 90_600_000: 23, 302_000_000: 7}
    assert [plan.model.name for plan in plans] == [name for name in models for _ in range(4)]
    for plan in plans:
        assert plan.schedule.steps == steps[plan.subset.num_samples]
        assert plan.schedule.epochs == pytest.approx(epochs[plan.subset.num_samples], rel=1e-5)
        assert (plan.schedule.batch, plan.schedule.warmup_steps, plan.schedule.decay) == (4096, 10_000, "linear")
        assert plan.model.num_classes == 18_291
    rates = {plan.model.name: plan.recipe.learning_rate for plan in plans}
    assert list(rates.values()) == [3e-3, 1e-3, 1e-3, 8e-4, 6e-4, 4e-4, 6e-4]
    flops = {plan.model.name: train_flops(plan) for plan in plans if plan.subset.fraction == 1}
    published = {"vit-b/32": 55e18, "vit-l/32": 196e18, "vit-l/16": 783e18}  # ViT, Table 6
    for name, value in published.items():
        assert flops[name] == pytest.approx(value, rel=0.02)


def test_data_declared_by_count_plans_and_does_not_train(tmp_path: Path) -> None:
    root = ["--set", f"data.root={ROOT / 'sweeps' / 'jft-300m'}", "--set", "grid.model=[mixer-b/32]"]
    command = [str(ROOT / "sweeps" / "data_size.yaml"), *root, "--out", str(tmp_path / "runs")]
    assert launch([*command, "--dry-run"]) == 0
    with pytest.raises(UserError, match=r"declares 302,000,000 samples .* index your own shards"):
        launch(command)
    assert not list((tmp_path / "runs").rglob("run.json"))


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "scaling.launch sweeps/quickstart.yaml" in commands[0]
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_shipped_schema_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(["--print-schema"]) == 0
    printed = capsys.readouterr().out
    assert SHIPPED.read_text() == printed, f"python -m scaling.launch --print-schema > {SHIPPED.relative_to(ROOT)}"
    schema = json.loads(printed)
    assert {"study", "data", "protocol"} <= set(schema["required"])
    assert set(RunSettings.model_fields) <= set(schema["$defs"]["RunSetting"]["properties"])


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").rglob("*.yaml")), ids=lambda path: path.stem)
def test_editors_find_the_schema_of_a_shipped_sweep_and_agree_with_it(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    key, _, schema = first.partition("=")
    assert key == "# yaml-language-server: $schema" and (path.parent / schema).resolve() == SHIPPED
    jsonschema.Draft202012Validator(sweep_schema()).validate(load_document(path).data)


@pytest.mark.parametrize(
    "edit", [{"gird": {}}, {"defaults": {"learning_rat": 1}}, {"grid": {"fraction": [2]}}, {"study": "a/b"}]
)
def test_editors_see_what_planning_would_refuse(edit: dict[str, Any]) -> None:
    data = load_document(ROOT / "sweeps" / "quickstart.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(sweep_schema()).validate(data | edit)


def test_a_sweep_finds_its_data_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, document = load_study(ROOT / "sweeps" / "data_size.yaml")
    assert study.data.root == document.data["data"]["root"] == str(ROOT / "sweeps" / "jft-300m")
    assert load_study(ROOT / "sweeps" / "quickstart.yaml")[0].data.root == str(ROOT / "data" / "jft-like")
    assert load_study(Path(os.path.relpath(ROOT / "sweeps" / "data_size.yaml")))[0].data.root == study.data.root


def test_a_root_from_the_command_line_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (["data.root=here"], ["data={root: here, train: t, val: v}"]):
        assert load_study(ROOT / "sweeps" / "data_size.yaml", options)[0].data.root == str(tmp_path / "here")
    study, _ = load_study(ROOT / "sweeps" / "data_size.yaml", ["data.root=s3://bucket/jft"])
    assert study.data.root == "s3://bucket/jft"


@pytest.mark.parametrize("train", ["train", "train/mainfest.json"])
def test_a_missing_manifest_is_answered_with_the_one_near_it(train: str, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    shutil.copy(tiny_data / "train.json", tmp_path / "train" / "manifest.json")
    (tmp_path / "sweep.yaml").write_text(TINY_SWEEP.format(root='""'))
    with pytest.raises(UserError, match=r"sweep.yaml:2|--set data.train") as caught:
        launch([str(tmp_path / "sweep.yaml"), "--dry-run", "--set", f"data.train={train}"])
    assert str(caught.value).endswith(f"did you mean {tmp_path / 'train' / 'manifest.json'}?")
