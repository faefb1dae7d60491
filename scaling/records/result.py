"""`result.json`: what training found and what it cost, written once, when it is done, and never again.

Evaluations of the kept weights have records of their own (`evaluation`). The result carries a digest of its content and
is held against the plan at every loading: a number that contradicts it is an error and never a point in a figure.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scaling.records.reading import RecordError, read_record, write_record
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan

RESULT_SCHEMA = 2

_SHARE = re.compile(r"top1|top5|precision_at_1|accuracy|(avg5|real|vtab)$")
"""In the last part of a metric's name: it is a fraction in [0, 1]."""

_AMOUNT = re.compile(r"(per_second(_\w+)?|seconds|loss)$")
"""Likewise: it is not negative."""

_ROUNDING = 1e-9
"""Relative difference that the order of a few multiplications makes."""

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


def check_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """ValueError for a share outside of [0, 1], and for a time, a rate or a loss below 0."""
    for name, value in metrics.items():
        measure = name.rpartition("/")[2].lower()
        if _SHARE.search(measure) and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, which is no fraction between 0 and 1")
        if _AMOUNT.search(measure) and value < 0:
            raise ValueError(f"{name} is {value}, which is below 0")
    return metrics


class RunResult(BaseModel):
    """Final numbers of one run's training. Accuracies are fractions in [0, 1]; times are seconds.

    They count the steps that led to the final weights, over the attempts that took them; what an attempt did after its
    last checkpoint, and was done again, is not in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    result_schema: int = RESULT_SCHEMA
    run_id: str
    identity: str
    attempts: Annotated[int, Field(ge=1)]
    metrics: dict[str, float]
    """Upstream validation of the kept weights (`upstream/loss`), and training at the last logged step (`loss`)."""
    weights_sha256: str
    """Of the kept weights (best upstream validation), which evaluations score."""
    best_step: Count
    """Step of the kept weights."""
    steps: Count
    """Optimiser steps taken."""
    stopped_early: bool = False
    """Whether the run ended before its planned steps because its patience was out."""
    examples_seen: Count
    unique_examples: Count
    flops: Amount
    """By the count of the model when it was trained; a corrected count is in the plan (`RunPlan.train_flops`)."""
    train_seconds: Amount
    pause_seconds: Amount
    device_hours: Amount
    """(train_seconds + pause_seconds) * num_devices / 3600: training with its validations and checkpoints, without the
    evaluations of the kept weights, whose records tell their own time."""
    images_per_second: Amount
    """Training throughput over all devices: examples_seen / train_seconds."""
    device: str
    """Name of the device as its driver reports it."""
    num_devices: Annotated[int, Field(ge=1)]
    precision: str
    threads: int
    changes: tuple[str, ...] = ()
    """In which ways the run was continued, or trained again, with other threads, devices or libraries than before."""
    hardware: dict[str, Any]
    packages: dict[str, str]
    """Of the attempt that ended the training; `attempts/N.json` tells those of each."""
    git_commit: str
    git_dirty: bool

    _ranges = field_validator("metrics")(check_metrics)

    def save(self, run_dir: Path) -> None:
        write_record(RunDir(run_dir).result, self)

    @classmethod
    def load(cls, run_dir: Path, plan: RunPlan | None = None) -> Self | None:
        """The result, or None while the run is not trained; RecordError when it is damaged or is not of `plan`."""
        path = RunDir(run_dir).result
        try:
            result = read_record(path, cls, schema_key="result_schema", schema=RESULT_SCHEMA)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if plan is not None:
            result.check_against(plan, path)
        return result

    def check_against(self, plan: RunPlan, path: Path) -> None:
        """RecordError, which names `path`, for the first field that cannot be of this plan."""
        examples = self.steps * plan.schedule.batch
        expected: dict[str, object] = {
            "run_id": plan.run_id,
            "identity": plan.identity,
            "precision": plan.recipe.precision,
            "examples_seen": examples,
            "unique_examples": min(examples, plan.subset.num_samples),
        }
        for name, value in expected.items():
            if getattr(self, name) != value:
                raise RecordError(path, f"{name} is {getattr(self, name)}, and by the plan it is {value}")
        if self.steps > plan.schedule.steps or (self.steps < plan.schedule.steps) != self.stopped_early:
            early = "stopped early" if self.stopped_early else "not stopped early"
            raise RecordError(path, f"steps is {self.steps}, {early}, of {plan.schedule.steps} planned")
        if self.best_step > self.steps:
            raise RecordError(path, f"best_step is {self.best_step}, after the last of {self.steps} steps")
        # The plan's count of FLOPs may be corrected after the training, so the result's need not agree with it.
        costs = {"device_hours": (self.train_seconds + self.pause_seconds) * self.num_devices / 3600}
        if self.train_seconds > 0:
            costs["images_per_second"] = examples / self.train_seconds
        for name, cost in costs.items():
            if not math.isclose(getattr(self, name), cost, rel_tol=_ROUNDING):
                raise RecordError(path, f"{name} is {getattr(self, name):g}, and by its other numbers it is {cost:g}")
