import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.canvas.style import drawing_style
from analysis.figures.published import published_figure_3
from analysis.published.findings import overtakings, saturated_from
from analysis.published.tables import PUBLISHED_METRIC, figure_2_records, read_published
from analysis.runs.summary import cells


def test_drawn_points_of_figure_2_equal_the_table() -> None:
    records = figure_2_records()
    with drawing_style():
        drawing = accuracy_vs_size(records, cells(records, PUBLISHED_METRIC), PUBLISHED_METRIC)
    drawn = sorted(tuple(np.round(p, 6)) for line in drawing.figure.axes[0].lines for p in line.get_xydata())
    with (files("analysis.published") / "mixer_fig2_right_digitised.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    told = sorted((float(r["subset_images_from_axis"]), float(r["linear_5shot_imagenet_top1"])) for r in rows)
    assert drawn == told
    assert len(told) == 28


def test_drawn_points_of_figure_3_equal_the_table() -> None:
    table = read_published("mixer_fig3_digitised")
    with drawing_style():
        cost, throughput = published_figure_3()
    for drawing, column in ((cost, "tpuv3_core_days"), (throughput, "throughput_img_s_core")):
        markers = [line for line in drawing.figure.axes[0].lines if line.get_gid()]
        drawn = sorted(tuple(np.round(line.get_xydata()[0], 6)) for line in markers)
        assert drawn == sorted(zip(table[column].astype(float), table["imagenet_top1_ft224"], strict=True))


def test_the_text_finds_what_the_paper_says() -> None:
    """Mixer Section 3.3: L/16 models overtake BiT-R152x2 with more data, small models saturate."""
    records = figure_2_records()
    found = {(o.later, o.from_fraction, o.to_fraction) for o in overtakings(records, PUBLISHED_METRIC, "bit-r152x2")}
    assert found == {("mixer-l/16", 0.1, 0.3), ("vit-l/16", 0.1, 0.3)}
    saturated = saturated_from(records, PUBLISHED_METRIC)
    assert saturated["mixer-b/32"] == saturated["vit-b/32"] == 0.3
    assert not {"mixer-l/32", "mixer-l/16", "vit-l/32", "vit-l/16"} & set(saturated)


@pytest.mark.parametrize("others", ["runs/nowhere", "--check", "--metric nonsense", "--throughput nofile", "--overlay"])
def test_published_only_takes_nothing_that_it_would_leave_unread(
    others: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--published-only", "--out", str(tmp_path / "out"), *others.split()]) == 2
    assert "leave one of them out" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_published_only_writes_figures_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--published-only", "--out", str(tmp_path)]) == 0
    assert "Mixer-L/16 overtakes BiT-R152x2 between 10 % and 30 %" in capsys.readouterr().out
    for name in ("mixer_table2", "mixer_table3"):
        assert pd.read_csv(tmp_path / f"{name}.csv").equals(read_published(name))
    assert "Mixer-H/14" in (tmp_path / "index.html").read_text()


def test_every_published_file_says_where_its_rows_come_from() -> None:
    readme = (files("analysis.published") / "README.md").read_text()
    for entry in files("analysis.published").iterdir():
        if entry.name.endswith(".csv"):
            assert f"`{entry.name}`" in readme
            assert read_published(entry.name.removesuffix(".csv"))["verified"].notna().all()
