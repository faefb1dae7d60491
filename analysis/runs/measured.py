"""How the evaluation behind a metric was measured: values of one name are comparable where settings and data agree.

A metric `NAME/x` is of the evaluation, or the suite, NAME; training measures the metrics of no evaluation. Runs that
were scored by further evaluations stay comparable in all that they share.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.runs.conditions import condition_parts, condition_text
from analysis.runs.load import Records
from analysis.runs.metrics import metric_names
from analysis.runs.ways import measured_as, ways_of
from scaling.readable import counted


def measured_alike(records: Records, metric: str) -> Records:
    """The records in conditions within which `metric` was measured in one way."""
    return replace(records, runs=records.runs.assign(condition=condition_text(condition_parts(records.runs, metric))))


def without_mixed(records: Records, metric: str, within: Sequence[str]) -> tuple[Records, str]:
    """The records without the other evaluations that were measured in several ways among runs equal in the columns
    `within`, which would be averaged or compared, and a sentence that names them; empty where there are none."""
    runs = records.runs
    mixed: dict[str, list[str]] = {}
    for name in metric_names(runs):
        have = runs[runs[name].notna()]
        if name != metric and have.assign(way=measured_as(have, name)).groupby([*within])["way"].nunique().gt(1).any():
            mixed.setdefault(name.partition("/")[0], []).append(name)
    if not mixed:
        return records, ""
    told = "; ".join(f"{ways_text(runs, names[0])} (--metric {names[0]})" for names in mixed.values())
    kept = runs.drop(columns=[name for names in mixed.values() for name in names])
    return replace(records, runs=kept), (
        f"{counted(len(mixed), 'evaluation')} measured in several ways, which are never averaged, stand in runs.csv "
        f"alone; --metric gives each way a condition of its own: {told}."
    )


def ways_text(runs: pd.DataFrame, metric: str) -> str:
    """`evaluations of ten 1: shots [5]; 2: shots [10]`, what differs alone; empty where there are no two ways."""
    ways = [_facts(way) for way in ways_of(measured_as(runs, metric))]
    if len(ways) < 2:
        return ""
    names = sorted({name for way in ways for name in way})
    differing = [name for name in names if len({way.get(name) for way in ways}) > 1]
    told = [
        f"{rank}: " + ", ".join(f"{name} {way.get(name, 'not said')}" for name in differing)
        for rank, way in enumerate(ways, 1)
    ]
    return f"evaluations of {metric.partition('/')[0]} {'; '.join(told)}"


def _facts(way: str) -> dict[str, str]:
    """What one way of measuring says, as texts by name; another table's own words stand as they are."""
    try:
        settings, digests, *version = json.loads(way)
        facts = {name: json.dumps(value, ensure_ascii=False) for name, value in settings.items()}
        facts |= {f"{role} data": digest[:12] for role, digest in digests.items()}
        return facts | {"version": str(version[0])} if version else facts
    except (ValueError, TypeError, AttributeError):
        return {"by": way}
