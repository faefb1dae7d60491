"""Figures stay readable with many models, long names, flat curves and times that only the machine tells apart."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import findfont, get_font
from PIL import Image

from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.canvas.axes import spread_apart
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import panel_font_size
from analysis.figures.canvas.style import (
    drawing_style,
    further_fonts,
    looks,
    new_figure,
    shaded_family_colours,
    without_glyphs,
)
from analysis.figures.compute.accuracy_vs_cost import accuracy_vs_cost, same_work_pooled, told_apart
from analysis.figures.evaluations import evaluation_matrix
from analysis.figures.law_fits import MIN_TICKS, law_fits
from analysis.figures.published import beside_published
from analysis.laws.study_laws import study_laws
from analysis.published.tables import PUBLISHED_METRIC, figure_2_records
from analysis.report.tables import plain_text
from analysis.runs.evaluations import evaluation_metrics
from analysis.runs.load import load_records
from analysis.runs.naming import ROOM, parse_model_name, short_titles, with_short_titles
from analysis.runs.summary import cells
from scaling.readable import num_columns
from tests.support.synthetic_study import METRIC, Truth, make_study

NAMES = [f"{family}-{size}/{patch}" for family in ("mixer", "vit") for size in "sbl" for patch in (8, 14, 16, 32)]
MANY = {
    name: Truth(0.12 + 0.01 * i, 0.2 + 0.004 * i, 0.5, 4000 - 100 * i, int(5e7 * (1 + 0.1 * i)), 10.0 + i)
    for i, name in enumerate(NAMES)
}
FLAT = {
    "mixer-b/32": Truth(0.84, 0.02, 0.3, 4200, 60_000_000, 6.5),
    "vit-b/32": Truth(0.86, 0.04, 0.1, 3000, 80_000_000, 8.8),
}


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        [f"family{i}-b/16" for i in range(30)],
        ["mixer-b/32", "mixer-b/32 [permute global]", "mixer-b/32 [permute none]", "mixer-l/32"],
    ],
    ids=["two families", "thirty families", "series"],
)
def test_no_two_models_look_alike(names: list[str]) -> None:
    look_of = looks(map(parse_model_name, names))
    drawn = [name for name in names if not any(other.startswith(f"{name} [") for other in names)]
    assert len({(look_of[name].colour, look_of[name].marker) for name in drawn}) == len(drawn)


def test_a_family_alone_keeps_its_colour_and_every_shade_follows_the_theme() -> None:
    assert looks([parse_model_name("vit-b/32")])["vit-b/32"].colour == "#00508f"
    assert {look.colour for look in looks(map(parse_model_name, NAMES)).values()} <= shaded_family_colours().keys()


@pytest.mark.parametrize(
    ("titles", "short"),
    [
        (["Mixer-B/32", "ViT-B/32"], ["Mixer-B/32", "ViT-B/32"]),
        ([f"timm:a_long_model_number_{i}.tag_in22k_ft_in1k" for i in (0, 1)], ["…number_0…", "…number_1…"]),
        (["a" * 60], ["a" * 14 + "…" + "a" * 13]),
    ],
)
def test_long_titles_are_cut_to_what_tells_them_apart(titles: list[str], short: list[str]) -> None:
    assert list(short_titles(titles).values()) == short


def test_titles_that_differ_only_in_the_middle_stay_apart() -> None:
    titles = [f"vit_small_patch{patch}_224.augreg_in21k_ft_in1k_{'x' * 20}" for patch in (8, 16, 32)] + ["a" * 40]
    short = short_titles(titles)
    assert len(set(short.values())) == 4 and all(len(told) <= ROOM + 14 for told in short.values())


def test_labels_stay_inside_where_there_is_room() -> None:
    places = spread_apart([0.99, 0.98, 1.0, 0.01], 0.2, (0.0, 1.0))
    assert min(places) >= 0 and max(places) <= 1 + 1e-9
    assert np.diff(sorted(places)).min() >= 0.2 - 1e-9


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("many"), models=NAMES, truths=MANY, seeds=(0,), fractions=(0.1, 1.0))


def test_names_of_24_models_are_inside_the_figure_and_apart(many: Path) -> None:
    records = load_records([many])
    with drawing_style():
        drawing = accuracy_vs_size(records, cells(records, METRIC), METRIC)
        matrix = evaluation_matrix(records, evaluation_metrics(records))
    boxes = []
    figure = drawing.figure
    figure.draw_without_rendering()
    for note in figure.axes[0].texts:
        if "/" in note.get_text():
            box = super(type(note), note).get_window_extent()
            boxes.append((box.y0, box.y1))
            assert box.y0 >= 0 and box.y1 <= figure.bbox.height and box.x1 <= figure.bbox.width
    assert len(boxes) == 24
    ordered = sorted(boxes)
    assert all(one[1] <= other[0] + 1 for one, other in itertools.pairwise(ordered))
    assert matrix is not None
    (legend,) = matrix.figure.legends
    matrix.figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= matrix.figure.bbox.width and box.y1 <= matrix.figure.bbox.height


def test_no_long_name_is_cut_off_by_the_edge_of_an_image(tmp_path: Path) -> None:
    """Of the saved file, whose resolution is another than that of the screen."""
    with drawing_style():
        figure = new_figure(7.0, 2.0)
        figure.add_subplot().set_yticks(
            [0, 1], ["a name of one model over a much longer name of another model", "-"], fontsize=7.5
        )
        (path, *_) = Drawing("name", "title", "caption", figure, pd.DataFrame({"x": [1]})).save(tmp_path)
    pixels = np.asarray(Image.open(path).convert("L"))
    edges = (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:])
    assert all((edge == pixels[0, 0]).all() for edge in edges)


def test_what_no_layout_has_room_for_makes_the_image_wider(tmp_path: Path) -> None:
    with drawing_style():
        figure = new_figure(4.0, 2.0)
        figure.add_subplot().plot([0, 1], [0, 1])
        figure.text(0.9, 0.5, "a name of a model that is long")
        (path, *_) = Drawing("name", "title", "caption", figure, pd.DataFrame({"x": [1]})).save(tmp_path)
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.shape[1] > 4.0 * 200
    edges = (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:])
    assert all((edge == pixels[0, 0]).all() for edge in edges)


def test_a_long_title_of_a_panel_is_smaller() -> None:
    assert panel_font_size("Mixer-B/16\n400 steps") == 9.0
    assert panel_font_size("a" * 44) == 4.5


NOWHERE = "\U0010fffd"
"""No font has it."""


def test_letters_that_the_font_of_figures_lacks_come_from_installed_ones_and_others_are_named() -> None:
    titles = ["Mixer-B/16 é", "модель", "arc \N{ARC}", f"no {NOWHERE}"]  # Matplotlib brings a font with the arc
    assert further_fonts(titles[:2]) == []
    (name,) = further_fonts(titles)
    assert ord("\N{ARC}") in get_font(findfont(name)).get_charmap()
    assert without_glyphs(titles) == [titles[-1]]


@pytest.mark.parametrize("name", ["\u0646\u0645\u0648\u0630\u062c-b/16", "\u05de\u05d5\u05d3\u05dc"])
def test_names_that_are_read_from_right_to_left_keep_the_order_of_what_stands_beside_them(name: str) -> None:
    mark = "\N{LEFT-TO-RIGHT MARK}"
    series = f"{name} [rate 0.1]"
    short = with_short_titles({series: parse_model_name(series), "mixer-b/16": parse_model_name("mixer-b/16")})
    assert short[series].title == short[series].figure_title == f"{mark}{name}{mark} [rate 0.1]"
    assert short["mixer-b/16"].title == "Mixer-B/16"
    assert short[series].base_title == name


def test_columns_of_wide_and_of_marked_letters_stay_in_line() -> None:
    names = ["Mixer-B/16", "\u6df7\u5408\u5668-b/16", "\u200e\u05de\u05d5\u05d3\u05dc\u200e", "e\u0301"]
    table = plain_text(pd.DataFrame({"model": names, "1k": ["51.5"] * 4}))
    assert num_columns(names[1]) == 11 and num_columns(names[2]) == 4 and num_columns(names[3]) == 1
    assert len({num_columns(line) for line in table.split("\n")}) == 1


def test_laws_of_high_flat_errors_have_a_scale(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=list(FLAT), truths=FLAT, noise=0.001, seeds=(0, 1))])
    laws, _ = study_laws(records, METRIC)
    with drawing_style():
        panel = law_fits(records, laws, METRIC).figure.axes[0]
    low, high = panel.get_ylim()
    assert sum(low <= tick <= high for tick in panel.get_yticks()) >= MIN_TICKS


def test_times_of_equal_work_are_pooled_and_never_ranked_by_chance(many: Path) -> None:
    records = load_records([many])
    runs = records.runs.assign(device_hours=records.runs["device_hours"] * (1 + 0.2 * (records.runs["fraction"] == 1)))
    with drawing_style():
        drawing = next(d for d in accuracy_vs_cost(replace(records, runs=runs), METRIC) if "device_hours" in d.name)
    times = drawing.points.groupby("model")[["cost_mean", "cost_min", "cost_max"]]
    assert (times.nunique() == 1).all(axis=None)
    assert (drawing.points["cost_max"] > 1.15 * drawing.points["cost_min"]).all()
    assert not told_apart(drawing.points.groupby("model").tail(1))
    assert "No front is drawn" in drawing.caption
    more_work = runs.assign(flops=runs["flops"] * runs["fraction"])
    table = drawing.points.assign(cost_mean=1.0)
    assert (same_work_pooled(table, more_work)["cost_mean"] == 1.0).all()


def test_another_task_never_shares_the_axis_of_the_paper(many: Path) -> None:
    records = load_records([many])
    published = cells(figure_2_records(), PUBLISHED_METRIC)
    with drawing_style():
        drawing = beside_published(records, cells(records, METRIC), published, METRIC)
    own, paper = drawing.figure.axes
    assert own.get_ylabel() != paper.get_ylabel() and "ImageNet" in paper.get_ylabel()
    assert "another one" in drawing.caption and set(drawing.points["source"]) == {"this study", "published"}
