"""Suites: many evaluations under one name, with the means over groups that a paper reports.

A suite is a YAML file. `vtab-1k`, `avg-5` and `laptop` ship with the package (`scaling/evals/suites`); a file of a user
has the same form:

    suite: laptop
    source: what it follows, for people
    prepare: a command that makes the data of {member}
    score: 5shot_top1                      # metric of every member that the means are over
    evaluation: {kind: fewshot, shots: [5]}  # of every member
    members:
      - {name: digits, group: pictures, splits: {train: 1500, test: 500}, support: a.json, test: b.json}

A member may hold facts that the data is compared with (`splits` and `num_classes`), and any setting of its evaluation.
The mean of a suite exists only when every member was scored; `scaling.records.scores.suites` names those that are
missing. No PyTorch here.
"""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scaling.errors import UserError, broken_rule, did_you_mean
from scaling.evals.settings import metrics_of
from scaling.records.run_plan import EvalPlan, Frozen, SourcePlan, SuitePlace
from scaling.spec.document import load_document

SUITE = "suite"
"""`kind` of an evaluation that stands for all of a suite."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]


class Member(BaseModel):
    """One data set of a suite. The remaining keys are settings of its evaluation."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Name
    group: Name = "all"
    title: str = ""
    """For people; default: the name."""
    num_classes: Annotated[int, Field(gt=0)] | None = None
    splits: dict[str, Annotated[int, Field(gt=0)]] = {}
    """Images of each split; the file of a split is `<name>/<split>.json` where no role names another."""


class Suite(Frozen):
    """A suite file."""

    suite: Name
    source: str = Field("", description="Which paper it follows; for people.")
    prepare: str = Field("", description="Command that makes the data of {member}.")
    score: str = Field(description="Metric of every member that the means are over.")
    evaluation: dict[str, Any] = Field(description="Kind and settings of every member's evaluation.")
    members: Annotated[tuple[Member, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> "Suite":
        names = [member.name for member in self.members]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two members are named {twice[0]!r}; every member has a name of its own")
        return self

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Members by group, in the order of the file."""
        found: dict[str, tuple[str, ...]] = {}
        for member in self.members:
            found[member.group] = (*found.get(member.group, ()), member.name)
        return found

    def member(self, name: str) -> Member:
        """UserError with the nearest name for an unknown one."""
        for member in self.members:
            if member.name == name:
                return member
        raise UserError(f"suite {self.suite} has no member {name!r}; {did_you_mean(name, self.member_names, 20)}")

    @property
    def member_names(self) -> list[str]:
        return [member.name for member in self.members]


def shipped_suites() -> list[str]:
    """Names of the suites of this package."""
    folder = importlib.resources.files("scaling.evals") / "suites"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_suite(name: str, root: str = "") -> Suite:
    """A shipped suite by name, or the one of a YAML file, relative to the folder `root`; UserError says what is wrong
    with it."""
    if not name:
        raise UserError(
            f"suite: the name is missing; add 'suite: NAME', one of {', '.join(shipped_suites())}, or a file"
        )
    if name in shipped_suites():
        with importlib.resources.as_file(
            importlib.resources.files("scaling.evals") / "suites" / f"{name}.yaml"
        ) as path:
            return read_suite(path)
    if not name.endswith((".yaml", ".yml")):
        raise UserError(f"suite: {name!r} is no suite; {did_you_mean(name, shipped_suites())} (or name a .yaml file)")
    return read_suite(Path(root) / name)


def read_suite(path: Path) -> Suite:
    """The suite of a YAML file."""
    document = load_document(path)
    try:
        return Suite.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = broken_rule(first)
        if first["type"] == "extra_forbidden":
            message = f"unknown key; {did_you_mean(str(first['loc'][-1]), Suite.model_fields)}"
        raise document.error(first["loc"], message) from error


def facts_problem(member: Member, sources: Mapping[str, SourcePlan]) -> str | None:
    """Why the data of a member's evaluation is not what the suite says it is; None where it is."""
    for role, source in sources.items():
        if member.num_classes is not None and source.num_classes != member.num_classes:
            return f"{role}: {source.manifest} has {source.num_classes} classes, and {member.name} {member.num_classes}"
        for split, count in member.splits.items():
            if source.manifest.endswith(f"/{member.name}/{split}.json") and source.num_samples != count:
                return f"{role}: {source.manifest} has {source.num_samples:,} images, and {member.name} {count:,}"
    return None


def score_problem(plan: EvalPlan, told: SuitePlace) -> str | None:
    """Why a member's evaluation cannot have the score that the suite's means are over, as a sentence; None where it
    can, for all that is known before."""
    measured = metrics_of(plan)
    if measured is None or told.score in measured:
        return None
    return (
        f"score: {told.score!r} is nothing that {plan.kind} measures with these settings, so there would be no mean; "
        f"{did_you_mean(told.score, measured)}"
    )


def suite_members(suite: Suite, name: str, given: Mapping[str, Any]) -> list[tuple[dict[str, Any], SuitePlace]]:
    """Each member as the keys of one evaluation, and its place in the suite, which is called `name` in the records.

    `given` are settings that the user writes beside the suite's name: they outweigh the suite's own. `members` chooses
    some of them (then there is no mean over the suite), and `root` is where the data lies, above what planning knows.
    """
    settings = dict(given)
    chosen = settings.pop("members", suite.member_names)
    root = settings.pop("root", None)
    if not isinstance(chosen, list) or not chosen or not all(isinstance(one, str) for one in chosen):
        raise UserError(f"members: {chosen!r} is no list of names, for example [{suite.member_names[0]}]")
    score = str(settings.pop("score", suite.score))
    found = []
    for member in (suite.member(one) for one in chosen):
        extra = dict(member.model_extra or {})
        keys = {**suite.evaluation, **extra, **settings}
        for role, split in list(keys.items()):
            if isinstance(split, str) and split in member.splits:
                keys[role] = f"{member.name}/{split}.json"
            if isinstance(keys[role], str) and keys[role].endswith(".json") and root is not None:
                keys[role] = f"{str(root).rstrip('/')}/{keys[role]}"
        place = SuitePlace(name=name, member=member.name, score=score, groups=suite.groups)
        found.append(({**keys, "name": f"{name}.{member.name}"}, place))
    return found
