"""What the evaluation adds to the difference of two models that were not scored alike.

Models scored on the same test images with the same support draws share the noise of both, so that it cancels in their
difference. Between others (two data sets, two studies, other draws) it does not: test images are a sample (binomial),
draws of a support set have the spread that their scores show. More seeds do not make it smaller, and it is common to
all subset sizes.

Where one seed leaves the spread between runs unknown, the noise of both evaluations is all that is known of a
difference; it is told as if the two models erred independently (`NoiseApart.alone`).
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.runs.evaluations import LEVEL_Z, evaluation_noise
from analysis.runs.load import Records
from scaling.records.files import canonical_json
from scaling.records.run_plan import EvalPlan, RunPlan


class NoiseApart:
    """The evaluation noise of one metric in the differences between the models of `records`."""

    def __init__(self, records: Records, metric: str) -> None:
        self._records, self._metric = records, metric
        runs = records.runs[records.runs[metric].notna()]
        self._runs = {str(model): rows for model, rows in runs.groupby("model", sort=False)}
        plans = {model: [records.plans.get(run_id) for run_id in rows["run_id"]] for model, rows in self._runs.items()}
        self._images = {model: {_images(plan, metric) for plan in plans[model] if plan} for model in plans}
        self._draws = {model: {_draws(plan, metric) for plan in plans[model] if plan} for model in plans}
        self._variances_of: dict[tuple[str, float], tuple[float, float]] = {}

    def is_apart(self, first: str, second: str) -> bool:
        """Whether the two were scored on other test images or with other support draws."""
        images, draws = self._images, self._draws
        known = first in images and second in images  # families are not
        return known and (images[first] != images[second] or draws[first] != draws[second])

    def error(self, first: str, second: str, size: float) -> float:
        """The standard error that it adds to the difference of both means at a subset size, as far as it is known; 0
        where it cancels."""
        known = [part for part in self._variances(first, second, size) if not math.isnan(part)]
        return math.sqrt(sum(known))

    def alone(self, first: str, second: str, size: float) -> float:
        """Half the width of a 90 % interval for the difference at a subset size that holds the noise of both
        evaluations and nothing else, as if nothing were shared; NaN where it is not known in closed form."""
        images, draws = zip(self._noise(first, size), self._noise(second, size), strict=True)
        return LEVEL_Z * math.sqrt(sum(images) + sum(part for part in draws if not math.isnan(part)))

    def text(self, table: pd.DataFrame) -> str:
        """What to say about the rows of a table of comparisons at matched data; empty where all were scored alike."""
        rows = [row for row in table.itertuples() if self.is_apart(row.model_a, row.model_b)]
        if not rows:
            return ""
        parts = np.array([part for row in rows for part in self._variances(row.model_a, row.model_b, row.at)])
        told = f"In {len(rows)} of {len(table)} rows the models were scored on other test images or support draws: "
        if np.isnan(parts).all():
            return told + "that noise is not known in closed form, and not in their intervals"
        limit = ", as far as it is known in closed form," if np.isnan(parts).any() else ""
        return f"{told}their intervals and P(better) hold the noise of both evaluations{limit} beside that of the seeds"

    def _variances(self, first: str, second: str, size: float) -> list[float]:
        """Of both models, from test images and from draws, where these are apart; NaN where it is not known."""
        if not self.is_apart(first, second):
            return []
        parts = []
        for model in (first, second):
            images, draws = self._noise(model, size)
            parts += [images] if self._images[first] != self._images[second] else []
            parts += [draws] if self._draws[first] != self._draws[second] else []
        return parts

    def _noise(self, model: str, size: float) -> tuple[float, float]:
        """Variances of a model's mean at a size from test images and from draws; NaN where they are not known."""
        if (model, size) not in self._variances_of:
            runs = self._runs[model]
            here = runs[runs["num_images"] == size]
            noise = evaluation_noise(replace(self._records, runs=here), self._metric)
            images = math.nan if noise is None else noise.from_test_images(float(here[self._metric].mean()))
            draws = math.nan if noise is None else noise.from_draws
            self._variances_of[model, size] = ((images / LEVEL_Z) ** 2, (draws / LEVEL_Z) ** 2)
        return self._variances_of[model, size]


def _images(plan: RunPlan, metric: str) -> str:
    """Names the test images and what they are scored against; one text for one set, or for all sets of a suite."""
    evaluations = _evaluations(plan, metric)
    if not evaluations and metric.startswith("upstream/"):
        return plan.val.digest
    return canonical_json([_test(evaluation) for evaluation in evaluations])


def _test(evaluation: EvalPlan) -> list[str]:
    source = evaluation.sources.get("test")
    return [source.digest if source else "", str(evaluation.settings.get("labels_sha256", ""))]


def _draws(plan: RunPlan, metric: str) -> str:
    """Names the support images that few-shot probes draw from and the seeds of the draws."""
    probes = [evaluation for evaluation in _evaluations(plan, metric) if "support" in evaluation.sources]
    return canonical_json(
        [
            [probe.kind, probe.sources["support"].digest, sorted(probe.settings.get("support_seeds", ()))]
            for probe in probes
        ]
    )


def _evaluations(plan: RunPlan, metric: str) -> list[EvalPlan]:
    """The evaluation that the metric is of; of a mean over a suite, the members."""
    name = metric.partition("/")[0]
    own = [evaluation for evaluation in plan.evals if evaluation.name == name]
    return own or [evaluation for evaluation in plan.evals if evaluation.suite and evaluation.suite.name == name]
