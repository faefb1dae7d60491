"""Which rate is taken and what the score is: functions of rows and records alone."""

from typing import Any

import pytest

from scaling.plan.finetune.choose import take_best


def row(rate: float, top1: float | None, loss: float | None = 1.0) -> dict[str, Any]:
    return {"learning_rate": rate, "dev_top1": top1, "dev_loss": loss, "taken": False}


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        ([row(0.01, 0.5), row(0.03, 0.7), row(0.06, 0.6)], 0.03),
        ([row(0.01, 0.7, 0.9), row(0.03, 0.7, 0.8)], 0.03),
        ([row(0.03, 0.7), row(0.01, 0.7)], 0.01),
        ([row(0.01, 0.1), row(0.03, None, None)], 0.01),
        ([row(0.01, None, None)], None),
    ],
)
def test_the_best_held_out_score_is_taken_and_marked(rows: list[dict[str, Any]], taken: float | None) -> None:
    rate, marked = take_best(rows)
    assert rate == taken
    assert [one["learning_rate"] for one in marked if one["taken"]] == ([] if taken is None else [taken])
    assert [one | {"taken": False} for one in marked] == rows
