"""What the plans tell about the evaluations: which metrics there are, the level of chance, and how noisy they are.

The spread between runs is measured; the noise of an evaluation is known in closed form: test images are a sample
(binomial), and a few-shot probe averages a few draws of its support. It is stated beside every interval over runs;
`analysis.comparison.noise_apart` has what it adds to a difference.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from analysis.runs.load import Records
from analysis.runs.metrics import metric_names
from scaling.records.run_plan import RunPlan, SourcePlan

_NO_EVALUATION = ("train", "throughput", "overfit")
"""Names before the slash that hold no evaluation of the kept weights."""
LEVEL_Z = 1.645
"""Standard deviations to each side of a 90 % interval."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one evaluation of one run, as half-widths of 90 % intervals in stored units."""

    num_test_images: int
    num_draws: int
    """Support draws averaged; 0 for other evaluations."""
    from_draws: float
    """NaN where the draws are not recorded."""

    def from_test_images(self, value: float) -> float:
        """Of a share `value` of right answers."""
        return LEVEL_Z * math.sqrt(max(value * (1 - value), 0.0) / self.num_test_images)

    def total(self, value: float) -> float:
        """Both together."""
        return math.hypot(self.from_test_images(value), 0.0 if math.isnan(self.from_draws) else self.from_draws)


def evaluation_metrics(records: Records) -> list[str]:
    """Every metric of an evaluation whose direction is known, in the order of the evaluations, then by name."""
    order = {name: place for place, name in enumerate(records.eval_order)}
    names = [
        name
        for name in metric_names(records.runs)
        if name.partition("/")[0] not in _NO_EVALUATION and records.metric(name).higher_is_better is not None
    ]
    return sorted(names, key=lambda name: (order.get(name.partition("/")[0], len(order)), _natural(name)))


def chance_level(records: Records, metric: str) -> float | None:
    """The share of right answers of a blind guess: one over the classes of a single-label test set; None where the
    plans do not tell it or do not agree."""
    if not records.metric(metric).is_percent:
        return None
    levels = {_chance_of(plan, metric) for plan in _plans(records)}
    return levels.pop() if len(levels) == 1 else None


def evaluation_noise(records: Records, metric: str) -> Noise | None:
    """None where the metric is no share of right answers, or the plans do not tell the number of test images."""
    if not records.metric(metric).is_percent:
        return None
    counts = {_num_test_images(plan, metric) for plan in _plans(records)}
    count = counts.pop() if len(counts) == 1 else None
    if not count:
        return None
    draws = [name for name in records.runs if str(name).startswith(f"{metric}_seed")]
    sd = float(np.sqrt(records.runs[draws].var(axis=1, ddof=1).mean())) if len(draws) > 1 else math.nan
    return Noise(count, len(draws), LEVEL_Z * sd / math.sqrt(len(draws)) if draws else math.nan)


def noise_text(records: Records, metric: str) -> str:
    """One sentence on what bands and intervals leave out; empty where nothing is known."""
    values = records.runs[metric].dropna()
    noise = evaluation_noise(records, metric)
    if noise is None or values.empty:
        return "Bands and intervals cover the spread between runs, not the noise of the evaluation."
    measure = records.metric(metric)
    count = f"{noise.num_test_images:,}".replace(",", " ")
    text = f"± {measure.scale * noise.from_test_images(values.mean()):.1f} points from {count} test images"
    if not math.isnan(noise.from_draws):
        text += f", ± {measure.scale * noise.from_draws:.1f} from the {noise.num_draws} support draws that are averaged"
    return (
        "Bands and intervals cover the spread between runs. The evaluation itself adds, at "
        f"{measure.text(values.mean())} and 90 %: {text}. Models scored on the same test images share most of it."
    )


def chance_text_of(records: Records, metric: str) -> str:
    """`Chance is 5.0 %.`, or nothing."""
    chance = chance_level(records, metric)
    return "" if chance is None else f"Chance is {records.metric(metric).text(chance)} %."


def _plans(records: Records) -> list[RunPlan]:
    return [records.plans[run_id] for run_id in records.runs["run_id"] if run_id in records.plans]


def _test_set(plan: RunPlan, metric: str) -> SourcePlan | None:
    name = metric.partition("/")[0]
    evaluation = next((evaluation for evaluation in plan.evals if evaluation.name == name), None)
    return evaluation.sources.get("test") if evaluation else plan.val if name == "upstream" else None


def _chance_of(plan: RunPlan, metric: str) -> float | None:
    source = _test_set(plan, metric)
    top = re.search(r"(?:top_?|precision_at_)(\d+)$", metric)
    if source is None or source.label_type != "single" or top is None:
        return None
    return min(1.0, int(top[1]) / source.num_classes)


def _num_test_images(plan: RunPlan, metric: str) -> int | None:
    source = _test_set(plan, metric)
    return source.num_samples if source else None


def _natural(name: str) -> list[object]:
    """Sorts 5shot before 10shot."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
