"""The figure of a search, and the labels of the logarithmic axes that it shares with others."""

import itertools
import json
from collections.abc import Callable
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures.canvas.axes import log_axis
from analysis.figures.canvas.panels import panel_grid
from analysis.figures.searches import search_figures
from analysis.runs.searches import COLUMNS
from scaling.readable import number_text, power_text


def label_spans(panel: Axes) -> list[tuple[float, float]]:
    """Left and right end of every label below a panel, in pixels, from left to right."""
    low, high = panel.get_xlim()
    labels = [label for label in panel.get_xticklabels() if label.get_text() and low <= label.get_position()[0] <= high]
    boxes = [label.get_window_extent() for label in labels]
    return sorted((box.x0, box.x1) for box in boxes)


@pytest.mark.parametrize("num_panels", [1, 4])
@pytest.mark.parametrize("text", [number_text, power_text])
def test_labels_of_a_log_axis_never_touch(num_panels: int, text: Callable[[float], str]) -> None:
    figure, panels = panel_grid(num_panels, "x", "y")
    figure.draw_without_rendering()
    for low, ratio in itertools.product([1.2e-5, 5e-4, 7.0, 2e11], [1.3, 3, 16, 80, 1e4, 1e9]):
        log_axis(panels[0], [low, low * ratio], text)
        spans = label_spans(panels[0])
        assert spans and all(left[1] < right[0] for left, right in pairwise(spans)), (low, ratio)
        assert len(spans) > 1 or ratio < 16, (low, ratio)


def test_every_trial_is_a_point_and_the_rates_can_be_read() -> None:
    rates = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    rows = [
        {
            "study": "tune",
            "cell": f"model {model}",
            "values": json.dumps({"learning_rate": rate}),
            "metric": "upstream/loss",
            "score": None if rate == 8e-3 else 0.2 + abs(rate - 2e-3),
            "problem": "diverged" if rate == 8e-3 else "",
            "is_best": rate == 2e-3,
        }
        for model in ("mixer", "vit", "bit")
        for rate in rates
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"score": float, "stopped_step": "Int64"})
    (drawing,) = search_figures(table.astype({"stopped_score": float}))
    drawing.figure.draw_without_rendering()
    panels = [axes for axes in drawing.figure.axes if axes.lines]
    assert len(panels) == 3
    for panel in panels:
        drawn = sorted(float(x) for line in panel.lines for x in line.get_xdata())
        assert drawn == sorted([*rates, 2e-3])
        spans = label_spans(panel)
        assert len(spans) >= 3 and all(left[1] < right[0] for left, right in pairwise(spans))
