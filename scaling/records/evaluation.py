"""`evals/NAME.json`: one evaluation of a run's kept weights, written when it is done and never by a later one.

It says what was measured, on which device and with which code: an evaluation may be asked for long after training, on
another machine. A record is current as long as its digest is that of the planned evaluation and it is about the weights
that the run kept; any other is history and is never shown as the present number.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from scaling.records.reading import RecordError, read_record, write_record
from scaling.records.result import RunResult, check_metrics
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import EvalPlan

logger = logging.getLogger(__name__)

EVALUATION_SCHEMA = 1


class ScoredData(BaseModel):
    """One data set of an evaluation, as it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the manifest."""
    split: str
    """What it served as: `support`, `test`, `train`."""
    digest: str
    num_samples: int
    num_classes: int


class Evaluation(BaseModel):
    """The numbers of one evaluation and what made them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    evaluation_schema: int = EVALUATION_SCHEMA
    run_id: str
    identity: str
    name: str
    kind: str
    digest: str
    """`EvalPlan.digest` of what was asked."""
    protocol: str = ""
    """Which published protocol was followed, in words, and its version here."""
    data: tuple[ScoredData, ...] = ()
    settings: dict[str, Any] = {}
    """All that was asked, seeds among them."""
    weights_sha256: str
    """Of the weights file that was scored."""
    metrics: dict[str, float]
    """Named `<name>/<metric>`; accuracies are fractions in [0, 1]."""
    rows: tuple[dict[str, Any], ...] = ()
    """What the metrics were made of, where that is more than one thing: choices that were made, repetitions, runs."""
    device: str
    num_devices: Annotated[int, Field(ge=1)]
    precision: str
    threads: int
    hardware: dict[str, Any] = {}
    packages: dict[str, str]
    version: str
    git_commit: str
    git_dirty: bool
    seconds: Annotated[float, Field(ge=0)]
    """Wall time that it took."""
    unix_time: float = Field(default_factory=time.time)

    _ranges = field_validator("metrics")(check_metrics)

    @model_validator(mode="after")
    def _own_metrics(self) -> Self:
        """A metric under another name would take the place of one of training or of another evaluation."""
        for metric in self.metrics:
            if not metric.startswith(f"{self.name}/"):
                raise ValueError(f"metric {metric[:80]!r} is not one of {self.name}")
        return self

    def save(self, run_dir: Path) -> None:
        path = RunDir(run_dir).evaluation(self.name)
        path.parent.mkdir(exist_ok=True)
        write_record(path, self)

    @classmethod
    def load(cls, run_dir: Path, name: str) -> Self | None:
        """None when it was never computed; RecordError when it is damaged."""
        path = RunDir(run_dir).evaluation(name)
        try:
            return read_record(path, cls, schema_key="evaluation_schema", schema=EVALUATION_SCHEMA)
        except (FileNotFoundError, NotADirectoryError):
            return None


def current_evaluations(run_dir: Path, result: RunResult, evals: Sequence[EvalPlan]) -> dict[str, Evaluation]:
    """The records that answer what is asked, by name, in the order of the plan. A damaged one is left out with a
    warning and so computed again."""
    found = {}
    for plan in evals:
        try:
            record = own_evaluation(run_dir, plan.name, result.run_id)
        except RecordError as error:
            logger.warning("%s; it will be computed again", error)
            continue
        if record is not None and _is_current(record, result, plan):
            found[plan.name] = record
    return found


def own_evaluation(folder: Path, name: str, run_id: str) -> Evaluation | None:
    """The record of that name in the folder of a run, or of weights; None when it was never computed, RecordError when
    it is damaged or another one lies in its place."""
    record = Evaluation.load(folder, name)
    if record is not None and (record.name, record.run_id) != (name, run_id):
        raise RecordError(RunDir(folder).evaluation(name), f"is evaluation {record.name} of run {record.run_id}")
    return record


def _is_current(record: Evaluation, result: RunResult, plan: EvalPlan) -> bool:
    return (
        record.digest == plan.digest()
        and record.identity == result.identity
        and record.weights_sha256 == result.weights_sha256
    )
