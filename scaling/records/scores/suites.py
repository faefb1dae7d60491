"""Means over the members of a suite, from the metrics of one run: exact, or not at all.

A mean over groups is over all members alike, as VTAB's and the Mixer paper's tables are. It is never reported for a
part of the members: what is missing is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scaling.records.run_plan import EvalPlan, SuitePlace


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """One suite on one run."""

    name: str
    score: str
    """Metric of the members that is averaged."""
    members: dict[str, float]
    """Scores by member, in the suite's order; those that are missing are not in it."""
    groups: dict[str, tuple[str, ...]]

    @property
    def missing(self) -> tuple[str, ...]:
        """Members without a score."""
        return tuple(name for names in self.groups.values() for name in names if name not in self.members)

    @property
    def metrics(self) -> dict[str, float]:
        """`<suite>/mean_<score>`, and `<suite>/<group>_mean_<score>` of every complete group where there are several;
        nothing of what is incomplete."""
        found = {}
        if len(self.groups) > 1:
            for group, names in self.groups.items():
                if all(name in self.members for name in names):
                    found[f"{self.name}/{group}_mean_{self.score}"] = _mean(self.members[name] for name in names)
        if not self.missing:
            found[f"{self.name}/mean_{self.score}"] = _mean(self.members.values())
        return found


def suite_scores(evals: Iterable[EvalPlan], metrics: Mapping[str, float]) -> list[SuiteScore]:
    """Every suite of which something is asked, with what `metrics` tell about its members."""
    places: dict[str, SuitePlace] = {}
    planned: dict[tuple[str, str], str] = {}
    for plan in evals:
        if plan.suite is not None:
            places.setdefault(plan.suite.name, plan.suite)
            planned[plan.suite.name, plan.suite.member] = f"{plan.name}/{plan.suite.score}"
    found = []
    for name, place in places.items():
        members = {}
        for member in (one for names in place.groups.values() for one in names):
            metric = planned.get((name, member), "")
            if metric in metrics:
                members[member] = metrics[metric]
        found.append(SuiteScore(name, place.score, members, place.groups))
    return found


def suite_metrics(evals: Iterable[EvalPlan], metrics: Mapping[str, float]) -> dict[str, float]:
    """The means of all suites that are complete."""
    return {name: value for one in suite_scores(evals, metrics) for name, value in one.metrics.items()}


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
