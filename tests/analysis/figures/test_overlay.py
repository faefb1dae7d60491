"""Studies in one figure on demand, other titles, other widths, and an axis for what is varied instead of the size."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest

from analysis.__main__ import main
from analysis.figures.accuracy_vs_setting import accuracy_vs_setting, varied_setting
from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.canvas.style import drawing_style, looks
from analysis.runs.load import load_records
from analysis.runs.overlay import labels_of, overlaid, renamed
from analysis.runs.summary import cells
from scaling.errors import UserError
from tests.support.synthetic_study import METRIC, make_study


def two_budgets(root: Path) -> list[Path]:
    return [
        make_study(root, name=f"steps{steps}", models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), steps=steps)
        for steps in (200, 800)
    ]


def test_an_overlay_names_series_after_the_condition_that_differs(tmp_path: Path) -> None:
    records = load_records(two_budgets(tmp_path))
    together = overlaid(records)
    assert together.runs["condition"].nunique() == 1
    assert set(together.runs["model"]) == {
        f"{model} [{steps} steps]" for model in ("mixer-b/32", "vit-b/32") for steps in (200, 800)
    }
    assert len(cells(together, METRIC)) == 4 * 4, "nothing is averaged over studies"
    colours = {look.colour for look in looks(together.models[name] for name in set(together.runs["model"])).values()}
    assert len(colours) == 4


def test_budgets_stay_the_axis_of_what_has_compute_as_its_axis(tmp_path: Path) -> None:
    """An overlay of other data names series after the data alone there, one of budgets none."""
    records = load_records(two_budgets(tmp_path))
    assert set(overlaid(records, but="protocol").runs["model"]) == {"mixer-b/32", "vit-b/32"}
    steps = [records.runs["steps"] == count for count in (200, 800)]
    runs = records.runs.assign(data=["a"] * len(records.runs)).drop(columns="data_digest")
    runs.loc[steps[1], "data"] = "b"
    across = overlaid(replace(records, runs=runs), but="protocol")
    assert {name.partition(" [")[2] for name in across.runs["model"]} == {"a]", "b]"}


def test_labels_name_the_studies_in_their_order(tmp_path: Path) -> None:
    studies = two_budgets(tmp_path)
    together = overlaid(load_records(studies), labels_of(studies, ["short", "long"]))
    assert {name.partition(" [")[2] for name in together.runs["model"]} == {"short]", "long]"}
    with pytest.raises(UserError, match="1 labels for 2 studies"):
        labels_of(studies, ["short"])
    with pytest.raises(UserError, match="one name twice"):
        overlaid(load_records(studies), labels_of(studies, ["same", "same"]))


def test_the_command_draws_an_overlay_with_other_titles_and_widths(tmp_path: Path) -> None:
    studies = two_budgets(tmp_path)
    names = tmp_path / "names.yaml"
    names.write_text("mixer-b/32: Ours\n")
    out = tmp_path / "report"
    options = [
        "--overlay",
        "--label",
        "short",
        "--label",
        "long",
        "--rename",
        str(names),
        "--columns",
        "1",
        "--no-titles",
    ]
    assert main([*map(str, studies), *options, "--out", str(out)]) == 0
    text = (out / "report.md").read_text()
    assert "| Ours [long] |" in text and "| Ours [short] |" in text
    assert not list(out.glob("accuracy_vs_size_2*"))
    assert (out / "accuracy_vs_size.pdf").read_bytes().startswith(b"%PDF")


def test_an_unknown_model_cannot_be_renamed(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))])
    with pytest.raises(UserError, match="did you mean 'mixer-b/32'"):
        renamed(records, {"mixer-b/23": "Ours"})


def test_a_study_of_one_size_gets_an_axis_of_what_it_varies(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], fractions=(1.0,), seeds=(0, 1))])
    assert varied_setting(records.runs) is None
    runs = records.runs.copy()
    runs["learning_rate"] = runs["seed"].map({0: 1e-3, 1: 3e-3})
    runs["model"] = [f"{m} [learning_rate {r:g}]" for m, r in zip(runs["model"], runs["learning_rate"], strict=True)]
    object.__setattr__(records, "runs", runs)
    assert varied_setting(runs) == "learning_rate"
    with drawing_style():
        drawing = accuracy_vs_setting(records, METRIC)
    assert drawing is not None
    assert drawing.name == "accuracy_vs_learning_rate"
    assert drawing.points["learning_rate"].tolist() == [1e-3, 3e-3] * 2
    assert drawing.points["mean"].tolist() == pytest.approx(
        [runs.loc[(runs["model"].str.startswith(m)) & (runs["learning_rate"] == r), METRIC].mean()
         for m in ("mixer", "vit") for r in (1e-3, 3e-3)]
    )  # fmt: skip


def test_a_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))])
    drawn = []
    for settings in ({}, {"text.usetex": True, "font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10}):
        with mpl.rc_context(settings), drawing_style():
            drawn.append(accuracy_vs_size(records, cells(records, METRIC), METRIC).svg())
    assert drawn[0] == drawn[1]
