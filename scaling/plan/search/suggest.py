"""Values that Optuna's TPE suggests from the trials that a search has had (`search: optuna`).

Pure, for one version of Optuna: a suggestion is a function of the space, the search's seed, the cell, and what the
trials so far came to in the order of their numbers. Nothing of a sampler is kept between two calls, so a launcher that
was killed and another back end come to the same suggestions; when the trials ended makes no difference. Trials that are
suggested together do not know of each other's scores: each is told to the next as one that runs, which TPE keeps away
from (its "constant liar").
"""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError
from scaling.plan.search.space import Values, kind_of, random_values, settled
from scaling.records.files import canonical_json, content_digest
from scaling.records.scores.search_plan import Space
from scaling.spec.tune import STARTUP_TRIALS

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

TRIES = 50
"""Suggestions that may have been tried already, before a random draw takes their place."""

_FILL = 10**6
"""Keys of such draws, beyond those of rounds."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a trial came to, as a search is told of it."""

    values: Values
    score: float | None
    """In stored units; None for one that was stopped early, that diverged, or of which nothing is known."""
    reached: Mapping[int, float] | None = None
    """Of a trial without a score that says something about its values: what it had measured, by step, when it was
    stopped; empty for one that diverged, than which nothing is worse. None where nothing is known."""


def require_optuna() -> None:
    """UserError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            "tune.search: optuna: the package optuna is not installed; pip install 'scaling-study[optuna]', or take "
            "search: random"
        )


def sampler_seed(seed: int, cell: Mapping[str, Any], num_told: int) -> int:
    """Of the sampler that suggests what follows so many trials of a cell."""
    return int(content_digest({"seed": seed, "cell": cell, "told": num_told})[:8], 16)


def suggested_values(
    space: Space, count: int, seed: int, cell: Mapping[str, Any], told: Sequence[Told], *, higher_is_better: bool
) -> list[Values]:
    """`count` different values to try next, none of which is among `told`; fewer where the space holds no more."""
    from optuna import create_study, logging
    from optuna.samplers import TPESampler

    taken = {canonical_json(one.values) for one in told}
    distributions = {name: _distribution(searched) for name, searched in space.items()}
    found: list[Values] = []
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Some versions call these two options experimental.
            sampler = TPESampler(
                n_startup_trials=STARTUP_TRIALS,
                multivariate=True,
                constant_liar=True,
                seed=sampler_seed(seed, cell, len(told)),
            )
            study = create_study(sampler=sampler, direction="maximize" if higher_is_better else "minimize")
            study.add_trials([trial for one in told if (trial := _as_trial(one, space, distributions)) is not None])
            for _ in range(count):
                values = _ask(study, space, distributions, taken)
                if values is None:
                    break
                taken.add(canonical_json(values))
                found.append(values)
    finally:
        logging.set_verbosity(verbosity)
    known = [*(one.values for one in told), *found]
    return found + random_values(space, count - len(found), seed, cell, key=_FILL + len(told), taken=known)


def _ask(study: "Study", space: Space, distributions: "dict[str, BaseDistribution]", taken: set[str]) -> Values | None:
    """The next suggestion that is not `taken`; None when there is none within TRIES."""
    for _ in range(TRIES):
        asked = study.ask(distributions).params
        values = {name: _value(searched, asked[name]) for name, searched in space.items()}
        if canonical_json(values) not in taken:
            return values
    return None


def _distribution(searched: Mapping[str, Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kind = kind_of(searched)
    if kind == "choice":
        return CategoricalDistribution(list(range(len(searched[kind]))))  # Positions: values may be lists.
    low, high = searched[kind]
    if kind == "integer":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(float(low), float(high), log=kind == "log_uniform")


def _value(searched: Mapping[str, Any], asked: Any) -> Any:
    """A sampler's value as one of a sweep."""
    kind = kind_of(searched)
    if kind == "choice":
        return searched[kind][asked]
    low, high = searched[kind]
    return settled(kind, low, high, asked)


def _param(searched: Mapping[str, Any], value: Any) -> Any:
    """A sweep's value as one of a sampler."""
    kind = kind_of(searched)
    if kind != "choice":
        return value
    return [canonical_json(option) for option in searched[kind]].index(canonical_json(value))


def _as_trial(one: Told, space: Space, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial | None":
    from optuna.trial import TrialState, create_trial

    if one.score is None and one.reached is None:
        return None
    return create_trial(
        state=TrialState.PRUNED if one.score is None else TrialState.COMPLETE,
        value=one.score,
        params={name: _param(searched, one.values[name]) for name, searched in space.items()},
        distributions=distributions,
        intermediate_values=dict(one.reached or {}),
    )
