"""The searches for hyper-parameters of studies as a table: a row per trial, with what it came to.

Trials are no points of any other figure: they were trained to be compared with each other. Which of them is the best
and whether it lies at an edge is read by the function that the launcher chooses by.
"""

import json
from collections.abc import Sequence

import pandas as pd

from scaling.records.files import canonical_json
from scaling.records.scores.search import Trial, best_of, cells_of, edges_of, latest_space, value_text, values_text
from scaling.records.study import StudyRecords

COLUMNS = [
    "study", "cell", "trial", "round", "values", "metric", "score", "problem", "stopped_step",
    "stopped_score", "is_best", "at_edge", "space", "run_ids",
]  # fmt: skip
"""`values`, `at_edge` and `space` are JSON objects by setting; `at_edge` says `low` or `high` for the best trial.
`stopped_step` and `stopped_score` are those of the rung at which a search that stops trials had one out."""


def search_table(studies: Sequence[StudyRecords]) -> pd.DataFrame:
    """COLUMNS for every trial of the studies' current plans, in the order of study, cell and trial."""
    rows = []
    for study in studies:
        trials = [record for record in study.runs if record.in_plan and record.plan.trial is not None]
        for cell, found in cells_of(trials).items():
            rows += _rows(trials[0].plan.study, cell, found)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.astype({"score": float, "stopped_step": "Int64", "stopped_score": float})
    return table.sort_values(["study"], kind="stable").reset_index(drop=True)


def _rows(study: str, cell: str, trials: Sequence[Trial]) -> list[dict[str, object]]:
    best = best_of(trials)
    edges = edges_of(best, trials) if best else {}
    space = canonical_json(latest_space(trials))
    return [
        {
            "study": study,
            "cell": cell,
            "trial": trial.plan.number,
            "round": trial.plan.round,
            "values": canonical_json(trial.plan.values),
            "metric": trial.plan.metric,
            "score": trial.score,
            "problem": trial.problem,
            "stopped_step": trial.stopped_step,
            "stopped_score": trial.stopped_score,
            "is_best": trial is best,
            "at_edge": canonical_json(edges if trial is best else {}),
            "space": space,
            "run_ids": " ".join(record.plan.run_id for record in trial.records),
        }
        for trial in trials
    ]


def cell_table(searches: pd.DataFrame) -> pd.DataFrame:
    """What a person asks of each search: the space, how many trials, the choice, its score, and what to doubt."""
    rows = []
    for (_, cell, metric), trials in searches.groupby(["study", "cell", "metric"], sort=False):
        best = trials[trials["is_best"]]
        scores, stopped = trials["score"].dropna(), int(trials["stopped_step"].notna().sum())
        rows.append(
            {
                "search for": cell,
                "searched": space_text(json.loads(trials["space"].iloc[0])),
                "trials": len(trials),
                "stopped early": stopped,
                "without a score": int(trials["score"].isna().sum()) - stopped,
                "chosen": values_text(json.loads(best["values"].iloc[0])) if len(best) else "nothing",
                str(metric): f"{best['score'].iloc[0]:.4g}" if len(best) else "",
                "worst": f"{_worst(best, scores):.4g}" if len(best) else "",
                "at an edge": edge_text(best) if len(best) else "",
            }
        )
    return pd.DataFrame(rows).fillna("")


def space_text(space: dict[str, dict[str, list[object]]]) -> str:
    """`learning_rate 0.0001 to 0.01 (logarithmic), weight_decay 0.03 or 0.1`."""
    words = {"log_uniform": " (logarithmic)", "uniform": "", "integer": " (whole numbers)"}
    parts = []
    for name, searched in space.items():
        ((kind, values),) = searched.items()
        texts = [value_text(value) for value in values]
        parts.append(f"{name} " + (" or ".join(texts) if kind == "choice" else " to ".join(texts) + words[kind]))
    return ", ".join(parts)


def edge_text(best: pd.DataFrame) -> str:
    """Of the best trial, one row: beyond which values nothing was tried; `no` where it lies inside."""
    edges, values = json.loads(best["at_edge"].iloc[0]), json.loads(best["values"].iloc[0])
    return ", ".join(
        f"nothing tried {'above' if side == 'high' else 'below'} {name} {value_text(values[name])}"
        for name, side in edges.items()
    ) or "no"  # fmt: skip


def _worst(best: pd.DataFrame, scores: "pd.Series[float]") -> float:
    return float(scores.max() if best["score"].iloc[0] == scores.min() else scores.min())
