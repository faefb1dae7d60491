"""What is kept of weights that were scored, and the table of all of them that the analysis draws.

    SCORES/<name>/weights.json      which weights they are
    SCORES/<name>/evals/NAME.json   one evaluation, the same record as that of a run
    SCORES/runs.csv                 a row per weights, made from the records: `python -m analysis --from-csv`

`<name>` holds the model and a digest of its weights, so that the same weights are scored once, wherever they lie.
"""

import csv
import io
import logging
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from scaling.records.evaluation import Evaluation, own_evaluation
from scaling.records.reading import RecordError, read_record, write_record
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import EvalPlan
from scaling.records.scores.suites import suite_metrics

logger = logging.getLogger(__name__)

WEIGHTS_SCHEMA = 1

WEIGHTS_FILE = "weights.json"


class WeightsRecord(BaseModel):
    """The weights that a folder of scores is about."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    weights_schema: int = WEIGHTS_SCHEMA
    source: str
    """File or `timm:NAME`, as it was given."""
    weights_sha256: str
    """Of all tensors that were loaded, by name."""
    model: str
    family: str
    image_size: int
    precision: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    """Of the colours from 0 to 1, with which the model was trained."""
    num_params: int
    """Without classifier."""
    flops_forward_per_image: float
    num_images: int | None = None
    """Distinct images that they were trained on, as the user said; None if unknown."""
    evals: tuple[EvalPlan, ...] = ()
    """All that was asked so far."""

    def save(self, folder: Path) -> None:
        (folder / "evals").mkdir(parents=True, exist_ok=True)
        write_record(folder / WEIGHTS_FILE, self)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None when the weights were never scored; RecordError when the file is damaged."""
        try:
            return read_record(folder / WEIGHTS_FILE, cls, schema_key="weights_schema", schema=WEIGHTS_SCHEMA)
        except FileNotFoundError:
            return None


def earlier_record(folder: Path, plan: EvalPlan, identity: str) -> Evaluation | None:
    """The record that answers what is asked already; a damaged one is reported and computed again."""
    try:
        record = own_evaluation(folder, plan.name, folder.name)
    except RecordError as error:
        logger.warning("%s; it will be computed again", error)
        return None
    is_same = record is not None and (record.digest, record.identity) == (plan.digest(), identity)
    return record if is_same else None


def runs_csv(out: Path) -> str:
    """A row per weights whose pre-training size is known, with every metric of its records."""
    rows: list[dict[str, Any]] = []
    for path in sorted(out.glob(f"*/{WEIGHTS_FILE}")):
        try:
            weights = WeightsRecord.load(path.parent)
            records = _own_records(path.parent, weights) if weights else []
        except RecordError as error:
            logger.warning("%s; these weights are left out of the table", error)
            continue
        if weights is None or weights.num_images is None or not records:
            continue
        metrics = {key: value for one in records for key, value in one.metrics.items()}
        metrics |= suite_metrics(weights.evals, metrics)
        facts = weights.model_dump(include={"model", "family", "num_images", "image_size", "num_params", "precision"})
        rows.append({"run_id": path.parent.name, **facts, "device": records[0].device, **dict(sorted(metrics.items()))})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _own_records(folder: Path, weights: WeightsRecord) -> list[Evaluation]:
    """The records that answer what was asked of these weights, others told and left out; RecordError where the folder
    is about other weights."""
    if not folder.name.endswith(weights.weights_sha256[:8]):
        raise RecordError(folder / WEIGHTS_FILE, f"is about weights {weights.weights_sha256[:8]}, not these")
    records = []
    for plan in weights.evals:
        try:
            record = own_evaluation(folder, plan.name, folder.name)
        except RecordError as error:
            logger.warning("%s; it is left out of the table, until it is asked for again", error)
            continue
        if record is None:
            continue
        precision = weights.precision if plan.by == "scoring" else record.precision
        if (record.digest, record.precision) != (plan.digest(), precision):
            path = RunDir(folder).evaluation(plan.name)
            logger.warning(
                "%s: answers another question, or in %s; it is left out of the table", path, record.precision
            )
            continue
        records.append(record)
    return records
