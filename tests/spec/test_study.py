"""A sweep file: what it expands to, and what a mistake in it is told."""

from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.spec.study import load_study
from scaling.spec.sweep import RunSpec, expand

SWEEP = """\
study: sizes
data:
  train: train/manifest.json
  val: val/manifest.json
protocol: {kind: constant_steps, steps: 100, batch: 32}
defaults: {learning_rate: 3e-4, warmup: 10%}
grid:
  model: [mixer-b/32, vit-b/32]
  fraction: [0.03, 0.1]
  seed: [0, 1]
"""


def runs(tmp_path: Path, *options: str, text: str = SWEEP) -> list[RunSpec]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return expand(*load_study(path, options))


def message(tmp_path: Path, *options: str, text: str = SWEEP) -> str:
    with pytest.raises(UserError) as caught:
        runs(tmp_path, *options, text=text)
    told = str(caught.value)
    assert "\n" not in told
    return told.replace(str(tmp_path) + "/", "")


def test_grid_is_the_product_with_the_first_axis_slowest(tmp_path: Path) -> None:
    axes = [tuple(run.axes.values()) for run in runs(tmp_path)]
    assert axes == [(m, f, s) for m in ("mixer-b/32", "vit-b/32") for f in (0.03, 0.1) for s in (0, 1)]


def test_yaml_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    assert runs(tmp_path)[0].settings.learning_rate == 3e-4


def test_zip_varies_together(tmp_path: Path) -> None:
    """The Mixer paper's Figure 2 protocol: epochs fall as the subset grows."""
    text = SWEEP.replace("constant_steps, steps: 100", "constant_epochs, epochs: 1").replace(
        "  fraction: [0.03, 0.1]\n", ""
    )
    text += "zip: {fraction: [0.03, 0.1], protocol.epochs: [233, 70]}\n"
    pairs = {(run.settings.fraction, run.protocol.epochs) for run in runs(tmp_path, text=text)}
    assert pairs == {(0.03, 233), (0.1, 70)}


def test_exclude_include_and_overrides(tmp_path: Path) -> None:
    text = SWEEP + (
        "exclude: [{model: 'vit-*', fraction: [0.1]}]\n"
        "include: [{model: bit-r50x1, fraction: 1.0}]\n"
        "overrides:\n"
        "  - {match: {model: 'vit-*'}, set: {learning_rate: 1.0e-3, protocol.steps: 50}}\n"
    )
    planned = runs(tmp_path, text=text)
    assert len(planned) == 8 - 2 + 1
    assert planned[-1].settings.model == "bit-r50x1"
    assert planned[-1].settings.learning_rate == 3e-4
    for run in planned:
        is_vit = run.settings.model == "vit-b/32"
        assert run.settings.learning_rate == (1e-3 if is_vit else 3e-4)
        assert run.protocol.steps.amount == (50 if is_vit else 100)


def test_set_overrides_win(tmp_path: Path) -> None:
    planned = runs(tmp_path, "protocol.steps=7", "grid.seed=[5]", "defaults.clip=0")
    assert {run.settings.seed for run in planned} == {5}
    assert {run.protocol.steps.amount for run in planned} == {7}
    assert {run.settings.clip for run in planned} == {0}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("grid:", "gird:"), ["sweep.yaml:7", "gird", "did you mean 'grid'"]),
        (("steps: 100", "stesp: 100"), ["sweep.yaml:5", "protocol.stesp", "did you mean 'steps'"]),
        (("kind: constant_steps", "kind: constant"), ["sweep.yaml:5", "constant_steps, constant_epochs"]),
        (("[0.03, 0.1]", "[0, 0.1]"), ["sweep.yaml:9", "grid.fraction[0]", "0:", "greater than 0", "above 0"]),
        (("[0.03, 0.1]", "[0.03, 1.5]"), ["sweep.yaml:9", "grid.fraction[1]", "1.5", "at most 1"]),
        (("[0.03, 0.1]", "[]"), ["sweep.yaml:9", "grid.fraction", "empty", "at least one"]),
        (("learning_rate", "learning_rat"), ["sweep.yaml:6", "did you mean 'learning_rate'"]),
        (("warmup: 10%", "warmup: 3 weeks"), ["sweep.yaml:6", "3 weeks", "2 epochs"]),
        (("batch: 32", "batch: -1"), ["sweep.yaml:5", "protocol.batch", "-1", "greater than 0"]),
        (("  train: train/manifest.json\n", ""), ["sweep.yaml:2", "'train' is missing"]),
        (("study: sizes", "study: a/b"), ["sweep.yaml:1", "'a/b'"]),
        (("study: sizes", "study: sizes\nstudy: again"), ["sweep.yaml:2", "study", "twice"]),
        (("data:\n", "data: [\n"), ["sweep.yaml:", "not valid YAML"]),
        (("  model: [mixer-b/32, vit-b/32]\n", ""), ["no model is given"]),
    ],
)
def test_a_mistake_is_told_with_place_value_rule_and_way_out(
    tmp_path: Path, edit: tuple[str, str], expected: list[str]
) -> None:
    assert edit[0] in SWEEP
    told = message(tmp_path, text=SWEEP.replace(*edit))
    for part in expected:
        assert part in told


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("grid.fraction=[2]", ["--set grid.fraction=[2]", "2", "at most 1"]),
        ("protocol.stps=3", ["--set protocol.stps=3", "did you mean 'steps'"]),
        ("protocol", ["key=value"]),
        ("study.x=1", ["has no fields"]),
        ("grid.seed.7=1", ["position from 0 to 1"]),
        ("grid.model=[", ["not YAML"]),
    ],
)
def test_a_mistake_on_the_command_line_names_the_option(tmp_path: Path, option: str, expected: list[str]) -> None:
    told = message(tmp_path, option)
    for part in expected:
        assert part in told


def test_excluding_everything_is_told(tmp_path: Path) -> None:
    assert "removes every run" in message(tmp_path, text=SWEEP + "exclude: [{seed: [0, 1]}]\n")


def test_a_match_rule_with_an_unknown_name_is_refused(tmp_path: Path) -> None:
    told = message(tmp_path, text=SWEEP + "overrides: [{match: {modle: x}, set: {clip: 0}}]\n")
    assert "did you mean 'model'" in told


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_study(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("nope.a=1", "--set nope.a=1: nope: unknown key"),
        ("launch.nope.a=1", "--set launch.nope.a=1: launch.nope: unknown key"),
        ("grid.seed[0]=4", "--set grid.seed[0]=4: positions of a list are written with dots: --set grid.seed.0=…"),
        ("grid.seed=[]", "--set grid.seed=[]: grid.seed: the list is empty"),
        ("data.storage.s4.key=1", "--set data.storage.s4.key=1: data.storage.s4"),
    ],
)
def test_what_an_option_says_is_not_blamed_on_the_file(option: str, told: str, tmp_path: Path) -> None:
    assert message(tmp_path, option).startswith(told)
