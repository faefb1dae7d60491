"""The layout of the Mixer paper's Tables 2 and 3, filled from records: what each pre-trained model is worth and costs.

A row is a model at one size of the pre-training set. A cell is the mean over the runs that measured it; nothing stands
where none did, and a mean over a suite exists only where each member was scored.
"""

import math
from dataclasses import dataclass

import pandas as pd

from analysis.figures.accuracy_vs_throughput import BUSY_MARK
from analysis.published.tables import read_published
from analysis.runs.conditions import in_order
from analysis.runs.downstream import PAPER_COLUMNS, Yardstick, missing_members, yardsticks
from analysis.runs.load import Records
from analysis.runs.metrics import known_metric
from analysis.runs.speeds import speeds
from scaling.readable import count_text, number_text

BLANK = "—"
THIS_STUDY = "this study"
PUBLISHED = {"mixer_table2": "MLP-Mixer, Table 2", "mixer_table3": "MLP-Mixer, Table 3"}
_PUBLISHED_COLUMNS = dict(
    zip(PAPER_COLUMNS, ("imagenet_top1", "imagenet_real_top1", "avg5_top1", "vtab1k_19"), strict=True)
)
_DIGITS = 2
"""Decimals of percents, as in the paper."""


@dataclass(frozen=True, slots=True)
class TransferTable:
    printed: pd.DataFrame
    """As in the paper, texts."""
    values: pd.DataFrame
    """A row per model, size and yardstick in stored units: mean, sd and runs."""
    missing: tuple[str, ...]
    """Sentences on suites without a mean: which members are missing where."""


def transfer_table(records: Records, *, published: bool = False) -> TransferTable | None:
    """None where no run asked for a yardstick of `analysis.runs.downstream`. `published` adds the paper's rows."""
    columns = yardsticks(records)
    if not columns:
        return None
    rows, values = [], []
    rates = speeds(records)
    several = records.runs["condition"].nunique() > 1
    for condition in in_order(records.runs):
        block = records.runs[records.runs["condition"] == condition]
        cells = [
            _row(records, group, columns, rates, condition if several else "") for _, group in _groups(records, block)
        ]
        # As in the paper, the fastest first; a model without a measured rate comes last.
        cells.sort(key=lambda cell: -cell[2])
        rows += [printed for printed, _, _ in cells]
        values += [value for _, stored, _ in cells for value in stored]
    if published:
        rows += [row for name, source in PUBLISHED.items() for row in _published_rows(name, source)]
    printed = pd.DataFrame(rows).fillna(BLANK)
    if not published:
        printed = printed.drop(columns="source")
    told = tuple(_missing_text(records, column) for column in columns if column.suite)
    return TransferTable(printed, pd.DataFrame(values), tuple(filter(None, told)))


def _groups(records: Records, block: pd.DataFrame) -> list[tuple[tuple[str, float], pd.DataFrame]]:
    found = block.groupby(["model", "num_images"], sort=False)
    return sorted(
        (((str(model), float(size)), group) for (model, size), group in found),
        key=lambda entry: (-entry[0][1], records.models[entry[0][0]]),
    )


def _row(
    records: Records, group: pd.DataFrame, columns: list[Yardstick], rates: pd.DataFrame, condition: str
) -> tuple[dict[str, str], list[dict[str, object]], float]:
    """The printed row, its values in stored units, and the rate by which rows are sorted."""
    first = group.iloc[0]
    num_images, data = float(first["num_images"]), str(first.get("data", first["study"]))
    row = {
        "source": THIS_STUDY,
        "pre-trained on": f"{condition or data}, {count_text(num_images)} images",
        "model": records.models[str(first["model"])].title,
        "epochs": number_text(float(group["epochs"].mean())) if "epochs" in group else BLANK,
    }
    values: list[dict[str, object]] = []
    for column in columns:
        found = column.values(group).dropna()
        row[f"{column.title}, %"] = _cell(found, len(group), _scale(column))
        if len(found):
            sd = found.std(ddof=1) if len(found) > 1 else math.nan
            told = {"condition": first["condition"], "model": first["model"], "num_images": num_images}
            values.append({**told, "yardstick": column.title, "mean": found.mean(), "sd": sd, "num_runs": len(found)})
    rate, speed = _speed(rates, str(first["model"]))
    row["images/s per device"] = speed
    row["device-hours"] = _cost(group)
    row["runs"] = str(len(group))
    return row, values, rate


def _scale(column: Yardstick) -> float:
    return 100.0 if not column.metrics or known_metric(column.metrics[0]).is_percent else 1.0


def _cell(found: "pd.Series[float]", num_runs: int, scale: float) -> str:
    if found.empty:
        return BLANK
    text = f"{scale * found.mean():.{_DIGITS}f}"
    return text if len(found) == num_runs else f"{text} ({len(found)} of {num_runs} runs)"


def _speed(rates: pd.DataFrame, model: str) -> tuple[float, str]:
    """Inference rate with its device; blank where it was measured at several places."""
    found = rates[(rates["model"] == model) & (rates["work"] == "inference")]
    if found.empty:
        return -1.0, BLANK
    rate = float(found["throughput_median"].median())
    if len(found) > 1:
        return rate, f"{BLANK} (several devices or settings)"
    place = found.iloc[0]
    mark = f" {BUSY_MARK}" if place["disturbances"] else ""
    return rate, f"{number_text(rate)} ({place['device']}, {place['precision']}){mark}"


def _cost(group: pd.DataFrame) -> str:
    if "device_hours" not in group or group["device_hours"].isna().all():
        return BLANK
    devices = _devices(group, "device", "precision")
    if len(devices) > 1:
        return f"{BLANK} (several devices)"
    return f"{number_text(float(group['device_hours'].mean()))} ({devices[0]})"


def _devices(group: pd.DataFrame, *columns: str) -> list[str]:
    """Device and precision, each pair once."""
    known = [name for name in columns if name in group]
    texts = group[known].astype(str).agg(", ".join, axis=1) if known else pd.Series("unknown device", index=group.index)
    return sorted(texts.str.strip(", ").replace("", "unknown device").unique())


def _missing_text(records: Records, column: Yardstick) -> str:
    """`VTAB-1k has no mean for 3 of 6 runs: dmlab, svhn missing`."""
    lacking = missing_members(records, column)
    if not lacking:
        return ""
    members = list(dict.fromkeys(name for names in lacking.values() for name in names))
    return f"{column.title}: no mean for {len(lacking)} of {len(records.runs)} runs, which lack {', '.join(members)}"


def _published_rows(name: str, source: str) -> list[dict[str, str]]:
    """The paper's rows as printed there: blanks stay blank, and costs keep their unit."""
    rows = []
    for line in read_published(name, as_text=True).to_dict("records"):
        size = line.get("image_size")
        row = {
            "source": source,
            "pre-trained on": line["pretrain_data"],
            "model": f"{line['model']}{f' at {size} px' if size else ''}",
            "epochs": line.get("pretrain_epochs") or BLANK,
        }
        for title, column in _PUBLISHED_COLUMNS.items():
            row[f"{title}, %"] = line.get(column) or BLANK
        rate, cost = line["throughput_img_s_core_tpuv3"], line["tpuv3_core_days_thousands"]
        row["images/s per device"] = f"{rate} (TPUv3 core)" if rate else BLANK
        row["device-hours"] = f"{cost}k (TPUv3-core-days)" if cost else BLANK
        rows.append(row)
    return rows
