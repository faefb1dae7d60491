from pathlib import Path

import pandas as pd
import pytest
from synthetic_study import METRIC, make_study

from analysis.__main__ import main
from analysis.compare import at_matched_data
from analysis.from_csv import records_from_csv
from analysis.load import load_records
from analysis.summary import cells


def test_the_runs_table_of_a_study_gives_the_same_cells_and_comparisons(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "bit-r152x2"], seeds=(0, 1))])
    records.runs.to_csv(tmp_path / "runs.csv", index=False)
    again = records_from_csv([tmp_path / "runs.csv"], None)
    pd.testing.assert_frame_equal(cells(again, METRIC), cells(records, METRIC), check_dtype=False)
    pd.testing.assert_frame_equal(at_matched_data(again, METRIC), at_matched_data(records, METRIC), check_dtype=False)
    assert again.runs["condition"].tolist() == records.runs["condition"].tolist()


def test_a_small_table_of_anybodys_runs_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (m, n, s, a + 0.1 * k + 0.01 * s)
        for m, a in (("resnet", 0.3), ("vit-b/16", 0.2))
        for k, n in enumerate((100, 200, 400))
        for s in (0, 1)
    ]
    path = tmp_path / "mine.csv"
    pd.DataFrame(rows, columns=["model", "num_images", "seed", "my_accuracy"]).to_csv(path, index=False)
    assert main(["--from-csv", str(path), "--metric", "my_accuracy", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "resnet    30.5 ± 0.7 (2)  40.5 ± 0.7 (2)  50.5 ± 0.7 (2)" in shown


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model,images\na,1\n", "no column 'num_images'"),
        ("model,num_images\na,100\nb,none\n", "mine.csv:3: num_images is 'none'"),
    ],
)
def test_a_table_that_cannot_be_used_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    assert main(["--from-csv", str(path), "--metric", METRIC]) == 2
    assert words in capsys.readouterr().err
