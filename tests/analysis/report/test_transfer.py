"""The layout of the paper's Tables 2 and 3 from records: every cell worked out apart, blanks, published rows, LaTeX."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.published.tables import read_published
from analysis.report.transfer_table import transfer_table
from analysis.runs.load import load_records
from scaling.records.run_plan import EvalPlan, RunPlan, SuitePlace
from tests.support.synthetic_study import evaluation_of, make_study
from tests.support.undrawn import leave_undrawn

MODELS = ("mixer-b/32", "vit-b/32", "bit-r152x2")
AVG5 = {"all": ("imagenet", "cifar10", "cifar100", "pets", "flowers102")}
VTAB = {"natural": ("svhn", "dtd")}


def score(model: str, seed: int, member: int) -> float:
    """A different number for everything."""
    return 0.5 + 0.1 * MODELS.index(model) + 0.01 * seed + 0.003 * member


def downstream_study(root: Path) -> Path:
    """A study whose runs have avg-5 (the last seed of ViT lacks pets), half of VTAB, a fine-tuning of its own and
    label sets that are not the paper's."""
    study = make_study(root, models=MODELS, fractions=(1.0,), seeds=(0, 1))
    asked = [
        EvalPlan(kind="finetune", name=f"{suite}.{member}", by="runs",
                 suite=SuitePlace(name=suite, member=member, score="top1", groups=groups))
        for suite, groups in (("avg-5", AVG5), ("vtab-1k", VTAB)) for names in groups.values() for member in names
    ]  # fmt: skip
    asked += [EvalPlan(kind="finetune", name="signs", by="runs"), EvalPlan(kind="real", name="real")]
    asked[-1] = asked[-1].model_copy(update={"settings": {"labels": "imagenet-real"}})
    for folder in sorted(path.parent for path in study.glob("*/run.json")):
        plan = RunPlan.load(folder)
        for member, one in enumerate(asked):
            lacks_pets = plan.model.name == "vit-b/32" and plan.seed == 1 and one.name == "avg-5.pets"
            if not lacks_pets and one.name != "vtab-1k.dtd":
                value = score(plan.model.name, plan.seed, member)
                evaluation_of(plan, one, {f"{one.name}/top1": value}, "Test CPU").save(folder)
        plan.model_copy(update={"evals": (*plan.evals, *asked)}).save(folder)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return downstream_study(tmp_path_factory.mktemp("downstream"))


@pytest.fixture(scope="module")
def published(study: Path) -> Path:
    """The folder of its report with the paper's rows."""
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch)
        assert main([str(study), "--published"]) == 0
    return study / "report"


def test_each_cell_is_the_mean_over_runs_or_blank(study: Path) -> None:
    table = transfer_table(load_records([study]))
    assert table is not None
    rows = table.printed.set_index("model")
    assert set(rows.index) == {"Mixer-B/32", "ViT-B/32", "BiT-R152x2"}
    for title, model in (("Mixer-B/32", "mixer-b/32"), ("BiT-R152x2", "bit-r152x2")):
        mean_of = [np.mean([score(model, seed, member) for seed in (0, 1)]) for member in range(9)]
        assert rows.loc[title, "ImageNet top-1, %"] == f"{100 * mean_of[0]:.2f}"
        assert rows.loc[title, "Avg. 5, %"] == f"{100 * np.mean(mean_of[:5]):.2f}"
        assert rows.loc[title, "signs, fine-tuned, %"] == f"{100 * mean_of[7]:.2f}"
        assert rows.loc[title, "ReaL top-1, %"] == f"{100 * mean_of[8]:.2f}"
        assert rows.loc[title, "VTAB-1k, %"] == "—"
    # The mean of the one run that has all five; the other is not part of it, and is told.
    vit = np.mean([score("vit-b/32", 0, member) for member in range(5)])
    assert rows.loc["ViT-B/32", "Avg. 5, %"] == f"{100 * vit:.2f} (1 of 2 runs)"
    assert table.missing == (
        "Avg. 5: no mean for 1 of 6 runs, which lack pets",
        "VTAB-1k: no mean for 6 of 6 runs, which lack dtd",
    )
    assert list(rows.index) == ["Mixer-B/32", "ViT-B/32", "BiT-R152x2"], "the fastest first"
    assert rows["images/s per device"].str.contains("Test CPU, fp32").all()


def test_the_report_has_the_table_as_markdown_and_latex_with_published_rows(published: Path) -> None:
    text = (published / "transfer.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    sources = pd.Series(line.split(" | ")[0].strip("| ") for line in lines[2:]).value_counts()
    assert sources.to_dict() == {
        "MLP-Mixer, Table 3": len(read_published("mixer_table3")),
        "MLP-Mixer, Table 2": len(read_published("mixer_table2")),
        "this study": 3,
    }
    assert "| MLP-Mixer, Table 2 | ImageNet-21k | Mixer-L/16 | — | 84.15 | 87.86 | 93.91 | 74.95 |" in text
    assert "105 (TPUv3 core) | 0.41k (TPUv3-core-days) |" in text
    assert "| 85.30 |" in text and "9.90k" in text, "printed as in the paper"
    report = (published / "report.md").read_text()
    assert "## Transfer, throughput and cost" in report and "which lack dtd" in report
    assert "## Agreement of evaluations" in report and (published / "rank_agreement.png").exists()
    assert re.search(r"\| signs: top1, % +\| 10k \| 3 \|", report)


def test_the_table_in_latex_has_the_papers_layout_and_tells_each_device_once(published: Path) -> None:
    latex = (published / "transfer.tex").read_text()
    rows = [line for line in latex.splitlines() if line.endswith(r" \\")]
    sources = [row for row in rows if row.startswith(r"\multicolumn{11}")]
    assert [re.findall(r"\\emph{(.+?)}", row) for row in sources] == [
        ["this study"],
        ["MLP-Mixer, Table 2"],
        ["MLP-Mixer, Table 3"],
    ]
    assert {row.count(" & ") for row in rows if row not in sources} == {10} and len(rows) == 1 + 3 + 3 + 10 + 29
    for mark in (r"\toprule", r"\midrule", r"\bottomrule", "& --- &", "graphicx"):
        assert mark in latex
    caption = next(line for line in latex.splitlines() if line.startswith(r"\caption"))
    told = dict(re.findall(r"\$\^\{(\w+)\}\$ ([^;}]+)", caption))
    assert list(told.values()) == ["Test CPU, fp32", "1 of 2 runs", "TPUv3 core", "TPUv3-core-days"]
    assert r"60.60\rlap{$^{b}$}" in latex and r"105\rlap{$^{c}$} & 0.41k\rlap{$^{d}$}" in latex
    assert "Test CPU" not in latex.replace(caption, "") and "—" not in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed: apt-get install texlive")
def test_every_table_is_set_by_latex_within_the_page(published: Path, tmp_path: Path) -> None:
    tables = "".join(f"\\input{{{path}}}\n" for path in sorted(published.glob("*.tex")))
    text = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n%s\\end{document}\n"
    (tmp_path / "all.tex").write_text(text % tables)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert answer.returncode == 0, answer.stdout[-2000:]
    assert "Overfull" not in answer.stdout and (tmp_path / "all.pdf").stat().st_size > 1000


def test_without_a_yardstick_there_is_no_table(tmp_path: Path) -> None:
    plain = make_study(tmp_path, models=MODELS[:2], fractions=(1.0,), seeds=(0,))
    assert transfer_table(load_records([plain])) is None


def test_runs_on_several_devices_have_no_common_rate(study: Path) -> None:
    records = load_records([study])
    records.runs.loc[records.runs["seed"] == 1, ["device", "throughput_device"]] = "Another CPU"
    table = transfer_table(records)
    assert table is not None
    assert (table.printed["images/s per device"] == "— (several devices or settings)").all()
    assert (table.printed["device-hours"] == "— (several devices)").all()


def test_tables_logged_elsewhere_are_known_by_names(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(
        "model,num_images,imagenet/top1,vtab-1k/mean_top1,x/5shot_top1\n"
        "mixer-b/32,1000,0.5,0.4,0.3\nvit-b/32,1000,0.6,,0.2\n"
    )
    assert main(["--from-csv", str(path)]) == 0
    text = (tmp_path / "runs" / "report" / "transfer.md").read_text()
    assert "50.00 | — | — | 40.00" in text and "60.00 | — | — | —" in text
