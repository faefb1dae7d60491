"""The command that measures intervals and predictions with a part of the public curves left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.laws.fitting import Prior, fit_form
from analysis.laws.forms import M4
from analysis.laws.validate import main

TABLE = Path(__file__).parent / "assets" / "learning_curves.csv"


def test_every_group_gets_its_units_and_every_law_its_rmse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models at two shot counts on Caltech101 are two units; ImageNet is there to centre the drift's prior."""
    table = pd.read_csv(TABLE)
    models = table["Model"].isin(["BiT/101/3", "MiX/B/16"])
    table = table[models & table["Task"].isin(["cal_5", "cal_10", "inet_25"])]
    table.to_csv(tmp_path / "some.csv", index=False)
    assert main([str(tmp_path / "some.csv"), "--leave-out", "data-set", "--alone", "--forms"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cal", "all", "2", "4", "2"] in [row[:5] for row in rows]
    assert not any(row[0] == "drawn" for row in rows if row)
    errors = []
    for _, curve in table[table["Task"].str.startswith("cal")].groupby(["Task", "Model"]):
        known, new = (curve[curve["Training"] == part] for part in (1, 0))
        fit = fit_form(M4, known["Seen Examples"].to_numpy(), known["Loss"].to_numpy(), prior=Prior())
        gap = fit.log_predict(new["Seen Examples"].to_numpy())[0] - np.log(new["Loss"].to_numpy())
        errors.append(np.sqrt(np.mean(gap**2)))
    (printed,) = [row for row in rows if row and row[0] == "M4"]
    assert float(printed[1]) == pytest.approx(np.mean(errors), abs=6e-5)
