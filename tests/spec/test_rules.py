"""A rule of `exclude` and `overrides` goes by what a run has, whoever says so, and fits a run or is refused."""

import logging
from pathlib import Path

import pytest

from scaling.records.run_dir import StudyDir
from scaling.spec.study import load_study
from scaling.spec.sweep import expand
from tests.spec.test_study import SWEEP, message, runs


def with_rules(rules: str) -> str:
    return SWEEP + rules + "\n"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("exclude: [{model: 'vitt-*'}]", "exclude[0]: model: 'vitt-*' fits no run: model is mixer-b/32, vit-b/32;"),
        ("exclude: [{fraction: 0.3, seed: 0}]", "exclude[0]: fraction: 0.3, seed: 0 fits no run: fraction is 0.03, 0."),
        ("exclude: [{model: 'vit-*', fraction: [0.1, 0.3]}]", "exclude[0].fraction[1]: 0.3 fits no run that the rest"),
        (
            "exclude: [{model: 'vit-*'}]\noverrides: [{match: {model: 'vit-*'}, set: {clip: 2}}]",
            "overrides[0].match: model: 'vit-*' fits no run: model is mixer-b/32;",
        ),
        (
            "overrides: [{match: {model: 'vit-*', warmup: 2%}, set: {clip: 2}}]",
            "overrides[0].match: model: 'vit-*', warmup: '2%' fits no run: warmup is 10%;",
        ),
        (
            "overrides: [{match: {model: [vit-b/32, vit-b/16]}, set: {clip: 2}}]",
            "overrides[0].match.model[1]: 'vit-b/16' fits no run that the rest",
        ),
        (
            "overrides: [{match: {protocol.steps: 99}, set: {clip: 2}}]",
            "protocol.steps: 99 fits no run: protocol.steps",
        ),
        (
            "overrides:\n  - {match: {model: 'vit-*'}, set: {seed: 5}}\n"
            "  - {match: {model: 'mixer-*', seed: 5}, set: {clip: 2}}",
            "overrides[1].match: model: 'mixer-*', seed: 5 fits no run, as none has all of it;",
        ),
    ],
)
def test_a_rule_that_fits_no_run_is_refused_with_what_the_runs_have(rules: str, told: str, tmp_path: Path) -> None:
    found = message(tmp_path, text=with_rules(rules))
    assert told in found and found.endswith("correct it, or take it out")


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{optimizer: adam}", 8),
        ("{augment: inception, seed: 1}", 4),
        ("{warmup: 10 %, model: 'vit-*'}", 4),
        ("{protocol.steps: 100 steps}", 8),
        ("{decay_scope: 'kern*', fraction: 0.03}", 4),
    ],
)
def test_a_rule_goes_by_defaults_and_the_protocol_as_well(match: str, expected: int, tmp_path: Path) -> None:
    """Settings that the study does not write, and durations in another spelling."""
    text = with_rules(f"overrides: [{{match: {match}, set: {{clip: 7}}}}]")
    assert sum(run.settings.clip == 7 for run in runs(tmp_path, text=text)) == expected


def test_a_rule_goes_by_the_recipe(tmp_path: Path) -> None:
    """Below what the study writes: mixer-jft has Adam and 10,000 steps of warm-up, bit-sgd-jft has SGD."""
    text = SWEEP.replace("{learning_rate: 3e-4, warmup: 10%}", "{recipe: mixer-jft}").replace(", vit-b/32", "")
    text = text.replace("steps: 100,", "steps: 100000,")
    text += (
        "include: [{recipe: bit-sgd-jft, model: bit-r50x1, optimizer: adam}, {recipe: bit-sgd-jft, model: bit-r50x1}]\n"
    )
    text += "overrides: [{match: {optimizer: sgd}, set: {clip: 7}}, {match: {warmup: 10000}, set: {dropout: 0.5}}]\n"
    planned = runs(tmp_path, text=text)
    for run in planned:
        assert (run.settings.clip == 7) == (run.settings.optimizer == "sgd")
        assert (run.settings.dropout == 0.5) == (str(run.settings.warmup) == "10000 steps")
    assert [run.settings.optimizer for run in planned[-2:]] == ["adam", "sgd"]
    assert {run.settings.dropout for run in planned[:-2]} == {0.5}


def test_a_study_that_is_narrowed_by_an_option_keeps_its_rules(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = with_rules("overrides: [{match: {model: 'vit-*'}, set: {clip: 2}}]")
    with caplog.at_level(logging.WARNING):
        assert len(runs(tmp_path, "grid.model=[mixer-b/32]", text=text)) == 4
    assert "overrides[0].match: model: 'vit-*' fits no run" in caplog.text
    # What the option itself says is its own matter.
    assert "fits no run" in message(tmp_path, "overrides.0.match.model=vit-c", text=text)


@pytest.mark.parametrize(
    ("setting", "beside"),
    [
        ("momentum: 0.5", "optimizer: sgd"),
        ("betas: [0.9, 0.98]", "optimizer: adam"),
        ("end_learning_rate: 0", "decay: linear or cosine"),
        ("decay_factor: 0.3", "decay: staircase"),
        ("randaugment_magnitude: 15", "randaugment_layers: 1 or more"),
        ("permute_patch_size: 8", "permute: patches_and_pixels"),
    ],
)
def test_a_setting_that_no_run_uses_is_refused(setting: str, beside: str, tmp_path: Path) -> None:
    without = {"betas": "optimizer: sgd", "end_learning_rate": "decay: constant"}.get(
        setting.partition(":")[0], "clip: 1"
    )
    text = SWEEP.replace("warmup: 10%}", f"warmup: 10%, {without}, {setting}}}")
    name, _, value = setting.partition(":")
    assert f"defaults.{name}: it counts only with {beside}, and no run has that;" in message(tmp_path, text=text)
    # One run that uses it is enough, and its rules may be what makes it so.
    key, _, options = beside.partition(": ")
    used = {"1 or more": "1", "linear or cosine": "cosine"}.get(options, options)
    more = ", decay_at: [50%]" if used == "staircase" else ""
    rule = f"overrides: [{{match: {{model: 'vit-*', seed: 1}}, set: {{{key}: {used}{more}}}}}]\n"
    assert len(runs(tmp_path, text=text + rule)) == 8
    # Where it stands makes no difference.
    override = f"overrides: [{{match: {{model: 'vit-*'}}, set: {{{without}, {setting}}}}}]\n"
    plain = SWEEP.replace("warmup: 10%}", f"warmup: 10%, {without}}}")
    assert f"overrides[0].set.{name}: it counts only" in message(tmp_path, text=plain + override)
    assert f"grid.{name}: it counts only" in message(tmp_path, f"grid.{name}=[{value}]", text=plain)


def test_an_option_that_every_run_overrides_is_refused(tmp_path: Path) -> None:
    told = (
        "--set defaults.seed=5: defaults.seed: 5, and every run has another value, of grid, zip, include or overrides;"
    )
    assert message(tmp_path, "defaults.seed=5").startswith(told)
    # Of some runs it is the value, or the file itself says both.
    assert len(runs(tmp_path, "defaults.seed=5", text=SWEEP + "include: [{model: mixer-b/32}]\n")) == 9
    assert len(runs(tmp_path, text=SWEEP.replace("warmup: 10%}", "warmup: 10%, seed: 5}"))) == 8
    both = "overrides: [{match: {model: '*'}, set: {model_options: {init: lecun_normal}}}]\n"
    assert "defaults.model_options: {'head_init': 'zeros'}, and every run" in message(
        tmp_path, "defaults.model_options={head_init: zeros}", text=SWEEP + both
    )


def test_an_option_for_the_protocol_beside_an_axis_of_it_is_refused(tmp_path: Path) -> None:
    told = message(tmp_path, "grid.protocol.steps=[5, 9]", "protocol.steps=7")
    assert told.startswith("--set protocol.steps=7: protocol.steps: 7, and every run has another value")
    # The file has to have one, whatever the axis says.
    assert {run.protocol.steps.amount for run in runs(tmp_path, "grid.protocol.steps=[5, 9]")} == {5, 9}


def test_what_a_search_leaves_without_meaning_is_refused(tmp_path: Path) -> None:
    search = "tune: {{seeds: [1000], search: grid, space: {{{space}}}, set: {{{set}}}}}\n"
    momentum = search.format(space="learning_rate: {choice: [0.1, 0.2]}", set="momentum: 0.5")
    assert "tune.set.momentum: it counts only with optimizer: sgd" in message(tmp_path, text=SWEEP + momentum)
    ends = search.format(space="end_learning_rate: {choice: [0.0, 1.0e-5]}", set="decay: constant")
    constant = SWEEP.replace("warmup: 10%}", "warmup: 10%, decay: constant}")
    rates = search.format(space="end_learning_rate: {choice: [0.0, 1.0e-5]}", set="")
    assert "tune.space.end_learning_rate: it counts only with decay" in message(tmp_path, text=constant + rates)
    assert len(runs(tmp_path, text=SWEEP + ends)) == 8
    searched = search.format(space="optimizer: {choice: [adam, sgd]}, momentum: {choice: [0.5, 0.9]}", set="")
    assert len(runs(tmp_path, text=SWEEP + searched)) == 8
    for space, told in (
        ("learning_rate: {choice: [0.1, 0.2, 0.1]}", "choice: a value stands there twice"),
        ("randaugment_layers: {integer: [0, 2], points: 9}", "points: 9, and the range has 3 whole numbers"),
    ):
        assert told in message(tmp_path, text=SWEEP + search.format(space=space, set=""))
    drawn = search.replace("search: grid", "search: grid, seed: 3").format(space="mixup: {choice: [0, 1]}", set="")
    assert "seed: a grid search draws nothing" in message(tmp_path, text=SWEEP + drawn)


@pytest.mark.parametrize("match", ["{seed: true}", "{fraction: [true]}"])
def test_a_switch_fits_no_number(match: str, tmp_path: Path) -> None:
    assert "it is not a switch" in message(tmp_path, text=with_rules(f"exclude: [{match}]"))


def test_a_list_of_a_setting_that_is_one_is_its_value(tmp_path: Path) -> None:
    rules = "overrides: [{match: {betas: [0.9, 0.999], seed: 0}, set: {clip: 7}}]"
    assert sum(run.settings.clip == 7 for run in runs(tmp_path, text=with_rules(rules))) == 4


def test_the_kept_sweep_of_a_narrowed_study_is_planned_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`study.yaml` of a study's folder has the options in it, and cannot say which they were."""
    text = with_rules("overrides: [{match: {model: 'vit-*'}, set: {clip: 2}}]").replace(", vit-b/32", "")
    assert "fits no run" in message(tmp_path, text=text)
    kept = StudyDir(tmp_path)
    kept.sweep.write_text(text)
    kept.order.write_text("{}")
    assert len(expand(*load_study(kept.sweep))) == 4
    assert "fits no run" in caplog.text
