from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison.matched_cost import value_at
from analysis.figures.canvas.style import drawing_style
from analysis.figures.compute.accuracy_vs_cost import accuracy_vs_cost
from analysis.figures.learning_curves import with_gap
from analysis.report.compute_section import compute_part
from analysis.report.sections import condition_part
from analysis.runs.load import load_records
from analysis.runs.rows import read_rows
from scaling.readable import cost_text, range_text
from tests.support.synthetic_study import METRIC, make_study


def test_models_at_several_budgets_are_drawn_together_and_the_marks_equal_the_table(tmp_path: Path) -> None:
    budgets = [
        make_study(tmp_path, name=f"steps{steps}", models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), steps=steps)
        for steps in (200, 400, 800)
    ]
    with drawing_style():
        ((drawing,),) = [section.drawings for section in compute_part(load_records(budgets), METRIC).sections]
    panels = [panel for panel in drawing.figure.axes if panel.get_title(loc="left")]
    marks = {tuple(line.get_xydata()[0]) for panel in panels for line in panel.lines if line.get_gid()}
    told = {(row.budget, 100 * mean) for row in drawing.points.itertuples() for mean in (row.mean_a, row.mean_b)}
    assert len(panels) == 4
    assert len(told) == 6 * 4
    assert np.array(sorted(marks)) == pytest.approx(np.array(sorted(told)))


def test_families_of_one_protocol_are_compared_in_a_figure_of_their_own(tmp_path: Path) -> None:
    models = ["mixer-b/32", "mixer-l/16", "vit-b/32", "vit-l/32"]
    records = load_records([make_study(tmp_path, models=models, seeds=(0, 1), num_rows=2)])
    rows = read_rows(records.run_dirs.values())[0].to_pandas()
    records = replace(records, runs=with_gap(records, rows))
    with drawing_style():
        part = condition_part(records, rows, METRIC)
    names = {drawing.name for section in part.sections for drawing in section.drawings}
    assert {"matched_compute_families", "differences_data"} <= names


def test_a_value_between_two_measured_costs_is_linear_in_the_log_of_the_cost() -> None:
    curve = (np.array([1e12, 1e14]), np.array([0.2, 0.6]))
    assert value_at(curve, 1e13) == pytest.approx(0.4)


def test_flops_are_written_in_powers_of_ten_everywhere(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0,))])
    runs = records.runs.assign(flops=records.runs["flops"] / 1e3)
    records.runs["flops"] = runs["flops"]
    assert runs["flops"].max() < 1e12
    with drawing_style():
        drawing = accuracy_vs_cost(records, METRIC)[0]
        drawing.figure.draw_without_rendering()
    labels = [label.get_text() for label in drawing.figure.axes[0].get_xticklabels()]
    assert labels
    assert all("10" in label and "B" not in label for label in labels)
    assert cost_text("flops", 3e11) == "3·10¹¹ FLOPs"
    assert (range_text(8, 8, "run"), range_text(1, 3, "run"), range_text(1, 1, "run")) == (
        "8 runs",
        "1 to 3 runs",
        "1 run",
    )


@pytest.mark.parametrize("cost", ["flops", "device_hours"])
@pytest.mark.parametrize(
    ("costs", "told"),
    [
        # Mixer is the worse one here, by a mean of 40 against 60 points.
        ({"mixer-b/32": (2.0, 2.2), "vit-b/32": (1.0, 1.1)}, "one point has the least mean"),
        ({"mixer-b/32": (1.0, 1.1), "vit-b/32": (0.9, 3.0)}, "that would be on it touch"),
        ({"mixer-b/32": (1.0, 1.1), "vit-b/32": (2.0, 2.2)}, "The dotted staircase"),
    ],
)
def test_the_caption_says_why_no_front_is_drawn(
    tmp_path: Path, cost: str, costs: dict[str, tuple[float, float]], told: str
) -> None:
    """Where the best model may be the dearer one, no point is called the cheapest and the best."""
    records = load_records([make_study(tmp_path, models=list(costs), seeds=(0, 1), fractions=(1.0,))])
    records.runs[METRIC] = records.runs["model"].map({"mixer-b/32": 0.4, "vit-b/32": 0.6})
    records.runs[cost] = [
        costs[model][seed] for model, seed in zip(records.runs["model"], records.runs["seed"], strict=True)
    ]
    with drawing_style():
        (drawing,) = (one for one in accuracy_vs_cost(records, METRIC) if one.name == f"accuracy_vs_{cost}")
        headlines = " ".join(text.get_text() for text in drawing.figure.axes[0].texts)
    said = [words for words in ("one point has the least", "touch", "The dotted staircase") if words in drawing.caption]
    assert told in drawing.caption and len(said) == 1
    assert ("dotted" in headlines) == ("dotted" in told)
