"""The section `tune` of a sweep: what is refused, in one sentence that names the place and the way out."""

import json
from pathlib import Path

import pytest

from tests.support.planning import DryRun, make_dry_run
from tests.support.tiny_study import TINY_SWEEP

TUNE = """\
tune:
  space: {learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}
  num_trials: 3
"""


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.fixture
def sweep(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))) + TUNE)
    return path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["tune.seeds=[1000, 0]"], "tune.seeds[1]: 0 is a seed of the final runs too"),
        (["tune.seeds=[5, 5]"], "seeds: one stands there twice"),
        (["tune.per=[model, sede]"], "tune.per[1]: unknown setting 'sede'; did you mean 'seed'?"),
        (["tune.per=[model, seed]"], "tune.per[1]: a cell is not made by seed"),
        (["tune.per=[learning_rate]"], "tune.per[0]: a cell is not made by learning_rate"),
        (["tune.space={lerning_rate: {choice: [1]}}"], "tune.space.lerning_rate: unknown setting; did you mean"),
        (["tune.space={}"], "space is empty"),
        (["tune.space.learning_rate={}"], "give one of log_uniform, uniform, integer and choice"),
        (["tune.space.learning_rate={uniform: [0, 1], choice: [1]}"], "give one of log_uniform"),
        (["tune.space.learning_rate={log_unifrom: [1, 2]}"], "unknown key; did you mean 'log_uniform'?"),
        (["tune.space.learning_rate={log_uniform: [0, 1]}"], "both ends must be above 0"),
        (["tune.space.learning_rate={uniform: [1, 1]}"], "the first end must be below the second"),
        (["tune.space.learning_rate={uniform: [true, 2]}"], "input should be a valid number"),
        (["tune.space.learning_rate={choice: []}"], "the list is empty"),
        (["tune.space.learning_rate={choice: [1.0, 2.0, x]}"], "tune.space.learning_rate: 'x': input should be"),
        (["tune.space.learning_rate={choice: [-1.0, 1.0, 2.0]}"], "space.learning_rate: -1.0: input should"),
        (["tune.space.randaugment_layers={uniform: [0, 3]}"], "tune.space.randaugment_layers: "),
        (["tune.space={seed: {choice: [1]}}"], "tune.space.seed: it says what a run is"),
        (["tune.space={model: {choice: [a]}}", "tune.per=[fraction]"], "tune.space.model: it says what a run is"),
        (["grid.learning_rate=[1.0e-3]"], "tune.space.learning_rate: it is in grid as well"),
        (["include=[{model: vit-laptop-32px, learning_rate: 1.0e-3}]"], "include sets it as well"),
        (["overrides=[{match: {model: '*'}, set: {learning_rate: 1.0}}]"], "overrides sets it as well"),
        (["tune.num_trials=null"], "num_trials is missing"),
        (["tune.search=grid"], "num_trials: a grid search counts its own values"),
        (["tune.search=grid", "tune.num_trials=null"], "space.learning_rate: a grid search needs values"),
        (["tune.space.learning_rate={choice: [1.0e-3, 2.0e-3]}"], "3 trials, but random draws found 2 different"),
        (["tune.space={log_every: {integer: [1, 30]}}"], "give the same numbers; search a setting that changes a run"),
        (["tune.metric=upstream/goodness"], "its name does not say whether higher or lower is better"),
        (["tune.metric=downstream/top1"], "tune.metric: 'downstream/top1': no run measures it; known: upstream/loss"),
        (["tune.metric=fewshot/25shot_top1"], "'fewshot/25shot_top1': fewshot does not measure it; did you mean"),
        (["tune.metric=fewshot/loss"], "fewshot does not measure it; known: 2shot_top1, 2shot_top1_seed0"),
        (["evals=[{kind: finetune, train: train.json, test: val.json}]", "tune.metric=finetune/top1"],
         "'finetune/top1' is measured by finetune of the final runs, and trials have none; take upstream/loss"),
        (["grid.model=[mixr-b/32]"], "grid.model[0]: "),
        (["tune.search=bohb"], "tune.search: 'bohb': this search of Ray Tune follows the order in which trials end"),
        (["tune.search=bohb"], "take random, grid or optuna with scheduler: asha"),
        (["tune.search=hyperopt"], "take random, grid or optuna"),
        (["tune.search=optuna"], "num_trials: 3, and optuna draws its first 10 at random; write more"),
        (["tune.search=optuna", "tune.num_trials=null"], "num_trials is missing; search: optuna needs it"),
        (["tune.max_concurrent=2"], "max_concurrent: only search: optuna suggests trials from others"),
        (
            ["tune.search=optuna", "tune.num_trials=12", "tune.space={mixup: {uniform: [-1.0e-9, 0.5]}}"],
            "tune.space.mixup: -1e-09: input should be greater than or equal to 0",
        ),
        (["tune.search=optina"], "tune.search: 'optina': input should be"),
        (["tune.set={seed: 3}"], "tune.set.seed: the search itself or the study's runs decide it"),
        (["tune.set={model: x}"], "tune.set.model: per makes cells by it"),
        (["tune.set={fraction: 2}"], "tune.set.fraction: 2: input should be less than or equal to 1"),
        (["grid.fraction=[0.5, 1.0]"], "differ in fraction (0.5 and 1), and their trials could have one only"),
        (["tune.extend=-1"], "tune.extend: -1: input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(sweep: Path, dry_run: DryRun, options: list[str], told: str) -> None:
    code, words = dry_run(sweep, *options)
    assert code == 2 and words.startswith("error: ") and words.count("\n") == 1, words
    assert told in words


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["grid.fraction=[0.5, 1.0]", "tune.per=[model, fraction]"],
        ["grid.fraction=[0.5, 1.0]", "tune.set={fraction: 1.0, protocol.steps: 10}"],
        ["tune.space={warmup: {choice: ['2%', '10%']}, betas: {choice: [[0.9, 0.95], [0.9, 0.999]]}}"],
        ["tune.space={protocol.batch: {choice: [8, 16, 32, 64]}, mixup: {uniform: [0.0, 0.5]}}"],
        ["tune.metric=fewshot/2shot_top1", "tune.seeds=[7, 8]"],
        ["tune.search=grid", "tune.num_trials=null", "tune.space.learning_rate.points=4"],
        ["tune.search=optuna", "tune.num_trials=12", "tune.scheduler=asha", "tune.max_concurrent=1"],
    ],
)
def test_what_fits_is_planned(sweep: Path, dry_run: DryRun, options: list[str]) -> None:
    assert dry_run(sweep, *options) == (0, "")
