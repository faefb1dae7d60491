import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.comparison.compare import at_matched_data
from analysis.report.methods import methods_text
from analysis.runs.load import load_records
from analysis.runs.summary import cells
from analysis.runs.tables.from_csv import records_from_csv
from scaling.errors import UserError
from tests.support.synthetic_study import METRIC, make_study


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
        ("model,num_images\n", "the table has no rows"),
        ("model,num_images\na,100\n,100\n", "mine.csv:3: model is nan"),
        ("model,num_images,seed\na,100,x\n", "mine.csv:2: seed is 'x'"),
        ("model,num_images,flops\na,100,many\n", "mine.csv:2: flops is 'many'"),
        ("model,num_images,protocol\na,100,mine\n", "mine.csv:2: protocol is 'mine'"),
        ("model,num_images,protocol\na,100,constant_steps\n", "without column 'steps'"),
        (f"model,num_images,{METRIC}\na,100,41.2\n", "is 41.2; give accuracies as fractions"),
        (f"model,num_images,{METRIC}\na,100,-0.6\n", "is -0.6; give accuracies as fractions"),
        (f"model,num_images,{METRIC}\na,100,63.2%\n", "is '63.2%'; give accuracies as fractions"),
        (f"model,num_images,{METRIC}\na,100,.1\na,100,OOM\n", "mine.csv:3: unseen/5shot_top1 is 'OOM'"),
        (f"model,num_images,{METRIC}\na,inf,.1\n", "num_images is inf"),
        (f"model,num_images,{METRIC},flops\na,9,.1,0\n", "flops is 0"),
        (f"model,num_images,seed,{METRIC}\na,100,0,.1\na,100,0,.2\n", "give every run a seed of its own"),
    ],
)
def test_a_table_that_cannot_be_used_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    assert main(["--from-csv", str(path), "--metric", METRIC]) == 2
    assert words in capsys.readouterr().err


def test_a_column_that_is_a_setting_cannot_be_the_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("model,num_images,loss\na,100,2.5\n")
    assert main(["--from-csv", str(path), "--metric", "loss"]) == 2
    assert "call the column upstream/loss" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [None, [0, 1, 2, 3, 4, 5]], ids=["no seeds", "no common seed"])
def test_runs_that_no_seed_pairs_are_compared_as_independent(tmp_path: Path, seeds: list[int] | None) -> None:
    rows = pd.DataFrame(
        {"model": ["a"] * 3 + ["b"] * 3, "num_images": 100, METRIC: [0.50, 0.52, 0.53, 0.41, 0.43, 0.42]}
    )
    (rows if seeds is None else rows.assign(seed=seeds)).to_csv(tmp_path / "mine.csv", index=False)
    (row,) = at_matched_data(records_from_csv([tmp_path / "mine.csv"], None), METRIC).itertuples()
    a, b = (rows.loc[rows["model"] == name, METRIC] for name in "ab")
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert row.pairs == 0
    assert (row.low, row.high) == pytest.approx(tuple(interval))


def test_empty_cells_of_the_device_are_said_to_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"model,num_images,device,{METRIC}\na,100,,0.4\nb,100,GPU,0.5\n")
    assert records_from_csv([path], None).runs["device"].tolist() == ["unknown device", "GPU"]


def test_a_repeated_row_counts_once_and_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"model,num_images,seed,{METRIC}\na,100,0,0.4\na,100,1,0.5\na,100,0,0.4\n")
    records = records_from_csv([path], None)
    assert cells(records, METRIC)["num_runs"].tolist() == [2]
    assert records.excluded["reason"].tolist() == ["repeats mine.csv:2, which is used"]


def test_a_repeated_row_counts_once_without_seeds_too(tmp_path: Path) -> None:
    """In one table, and in a copy of it under any name; names of their own make two runs of equal scores."""
    head, rows = f"model,num_images,{METRIC}", "a,100,0.4\na,100,0.5\n"
    first, copy = tmp_path / "one.csv", tmp_path / "two.csv"
    first.write_text(f"{head}\n{rows}a,100,0.4\n")
    copy.write_text(f"{head}\n{rows}")
    for paths, number in (
        ([first], 1),
        ([first, copy], 3),
        ([copy, tmp_path / "." / ".." / tmp_path.name / "two.csv"], 0),
    ):
        records = records_from_csv(paths, None)
        assert cells(records, METRIC)["num_runs"].tolist() == [2]
        assert len(records.excluded) == number
        assert all("add a column seed" in reason for reason in records.excluded["reason"])
    first.write_text(f"{head},run_id\na,100,0.4,x\na,100,0.4,y\n")
    assert cells(records_from_csv([first], None), METRIC)["num_runs"].tolist() == [2]


def test_an_empty_cell_is_listed_as_a_run_without_the_metric(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"model,num_images,study,{METRIC}\na,100,,0.4\na,200,x,\n")
    assert main(["--from-csv", str(path), "--out", str(tmp_path / "out")]) == 0
    assert pd.read_csv(tmp_path / "out" / "excluded.csv")["reason"].tolist() == [f"has no value of {METRIC}"]
    # It counts in all other numbers, and is not said to be left out of them.
    page = (tmp_path / "out" / "report.md").read_text()
    assert "2 finished runs of 1 models; 1 of the finished ones have no value of the headline metric" in page
    assert "are part of all other numbers" in page and "No number above comes from them" not in page
    assert pd.read_csv(tmp_path / "out" / "runs.csv")["study"].tolist() == ["mine", "x"]


def test_names_that_are_formulas_markup_or_mathtext_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["=1+cmd|' /C calc'!A0", "$x_{$", "<img src=x onerror=alert(1)>", "@a", "-2+3"]
    table = pd.DataFrame([(name, n, 0.3 + n / 1e4) for name in names for n in (100, 200)],
                         columns=["model", "num_images", METRIC])  # fmt: skip
    table.to_csv(tmp_path / "mine.csv", index=False)
    out = tmp_path / "out"
    assert main(["--from-csv", str(tmp_path / "mine.csv"), "--out", str(out)]) == 0
    assert "<img" not in (out / "index.html").read_text()
    assert "<img" not in (out / "report.md").read_text()
    for path in out.glob("*.csv"):
        texts = pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().ravel()
        risky = [text for text in texts if text[:1] in ("=", "@") or text.startswith("-2+")]
        assert not risky, f"{path.name}: {risky}"
    again = records_from_csv([out / "runs.csv"], None)
    assert set(again.runs["model"]) == set(names)


PLAIN = [("vit", 1000, 0, "0.5"), ("vit", 1000, 1, "0.52"), ("mixer", 1000, 0, "0.4")]


def table(
    path: Path, rows: list[tuple[object, ...]], head: str = f"model,num_images,seed,{METRIC}", mark: str = ","
) -> Path:
    lines = [head.replace(",", mark), *(mark.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", [";", "\t"])
def test_tables_of_spreadsheets_are_read_as_they_are_saved(tmp_path: Path, mark: str) -> None:
    rows = [(*row[:3], row[3].replace(".", ",") if mark == ";" else row[3]) for row in PLAIN]
    found = records_from_csv([table(tmp_path / "a.csv", rows, mark=mark)], None).runs
    plain = records_from_csv([table(tmp_path / "a.csv", PLAIN)], None).runs
    pd.testing.assert_frame_equal(found, plain)


def test_a_model_is_one_model_whatever_blanks_and_unicode_form_its_name_has(tmp_path: Path) -> None:
    rows = [(" vité", 1000, 0, 0.5), ("vite\u0301 ", 1000, 1, 0.52)]
    assert set(records_from_csv([table(tmp_path / "a.csv", rows)], None).runs["model"]) == {"vité"}


@pytest.mark.parametrize(
    ("rows", "head", "told"),
    [
        (
            [("vit", 1000, 0, 0.5), ("ViT", 1000, 1, 0.5)],
            None,
            "the models 'ViT' and 'vit' differ in case or spaces alone",
        ),
        ([("vit", 0.3, 0, 0.5)], None, "num_images is 0.3; give the number of training images, a whole number"),
        ([("vit", '"1,000"', 0, 0.5)], None, "num_images is '1,000'"),
        ([("vit", 10, 0, "True")], None, "is True; give accuracies as fractions"),
        (
            [("vit", 10, 0, 0.5, 0.7)],
            f"model,num_images,seed,{METRIC},{METRIC}",
            "is there 2 times; rename all but one",
        ),
        ([("vit", 10, 0, 0.5, 30)], f"model,num_images,seed,{METRIC},fraction", "fraction is 30; give a share"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, rows: list[tuple[object, ...]], head: str | None, told: str
) -> None:
    path = table(tmp_path / "a.csv", rows, **({"head": head} if head else {}))
    with pytest.raises(UserError, match=re.escape(told)):
        records_from_csv([path], METRIC)


def test_runs_on_data_of_other_names_are_never_averaged(tmp_path: Path) -> None:
    rows = [("vit", 1000, seed, value, data) for seed, (value, data) in enumerate(((0.1, "cifar"), (0.2, "imagenet")))]
    path = table(tmp_path / "a.csv", rows, head=f"model,num_images,seed,{METRIC},data")
    assert sorted(records_from_csv([path], METRIC).runs["condition"]) == ["cifar", "imagenet"]
    path = table(tmp_path / "b.csv", rows, head=f"model,num_images,seed,{METRIC},data_digest")
    assert sorted(records_from_csv([path], METRIC).runs["condition"]) == ["cifar", "imagenet"]


def test_a_name_that_looks_like_a_number_is_a_name(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [("01", 1000, 0, 0.5), ("1", 1000, 1, 0.25), ("True", 1000, 0, 0.125)])
    runs = records_from_csv([path], METRIC).runs
    assert dict(zip(runs["model"], runs[METRIC], strict=True)) == {"01": 0.5, "1": 0.25, "True": 0.125}


@pytest.mark.parametrize("cells", [(True, False), ("high", "low")])
def test_a_column_that_is_known_as_a_metric_holds_numbers(tmp_path: Path, cells: tuple[object, ...]) -> None:
    path = table(tmp_path / "a.csv", [("vit", 1000, seed, cell) for seed, cell in enumerate(cells)])
    with pytest.raises(UserError, match="give accuracies as fractions"):
        records_from_csv([path], None)


def test_a_comma_that_may_separate_thousands_is_no_decimal_comma(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_images is '1,000'"):
        records_from_csv([table(tmp_path / "a.csv", [("vit", "1,000", 0, "0,5")], mark=";")], METRIC)


def test_a_protocol_needs_the_column_of_its_budget_alone(tmp_path: Path) -> None:
    """No epochs, and a batch that is not known of every run."""
    head = f"model,num_images,seed,{METRIC},protocol,flops,batch"
    rows = [(model, 1000, 0, 0.5, "matched_compute", 1e11, batch) for model, batch in (("vit", 32), ("mixer", ""))]
    records = records_from_csv([table(tmp_path / "a.csv", rows, head=head)], METRIC)
    assert sorted(records.runs["condition"]) == ["10¹¹ FLOPs", "10¹¹ FLOPs, batch 32"]
    assert "Protocol: matched compute (10¹¹ FLOPs, batch 32)." in methods_text(records, METRIC, {}, 0)
