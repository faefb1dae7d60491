"""A rule of `exclude` and `overrides` goes by what a run has, whoever says so, and fits a run or is refused."""

import logging
from pathlib import Path

import pytest

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
