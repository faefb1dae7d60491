"""The section `tune` of a sweep: hyper-parameters that are searched for each cell of a study before its runs.

`per` names the settings whose values make a cell (`[model, fraction]`: one search for each model at each size). The
trials of a cell are runs of its own: they differ from its final runs in the searched settings, in their seeds, which
are held apart, and in what `set` says. Planning draws the values; the launcher chooses when the trials have ended.

`search` and `scheduler` have the names of Ray Tune, and the same section means the same on every back end: which trials
a search has is a function of the sweep and of what its trials came to, never of the order in which they ended. Ray
Tune's other searches have no such form and are refused. `bohb` for one: its TuneBOHB does run (Ray 2.60, hpbandster
0.7.4, ConfigSpace 1.2.2, Python 3.11), but of two searches of 16 trials with one seed, two at a time, only the first
seven trials were the same, since its model draws from a generator that the seed does not reach and sees trials in the
order in which they end: after a kill nobody could find the same trials again. It also needs a scheduler of its own,
HyperBandForBOHB, which pauses trials to compare them in brackets.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from scaling.records.run_plan import Frozen
from scaling.records.scores.metrics import known_facts
from scaling.spec.settings import Seed

RANGES = ("log_uniform", "uniform", "integer")
"""Kinds of a searched range, each with its two ends."""

MAX_TRIALS = 10_000

STARTUP_TRIALS = 10
"""First trials of a cell that `search: optuna` draws at random, as Optuna's sampler does by default."""

NOT_OFFERED = ("ax", "bayesopt", "bohb", "hebo", "hyperopt", "nevergrad", "zoopt")
"""Further searches of Ray Tune, by its names."""

Scalar = Annotated[float, Field(strict=True, ge=-1e30, le=1e30)]
Whole = Annotated[int, Field(strict=True, ge=-(10**15), le=10**15)]


class Searched(Frozen):
    """What one setting is searched in: exactly one of the four kinds."""

    log_uniform: tuple[Scalar, Scalar] | None = Field(
        None, description="[LOW, HIGH], both above 0; drawn evenly by order of magnitude."
    )
    uniform: tuple[Scalar, Scalar] | None = Field(None, description="[LOW, HIGH], drawn evenly.")
    integer: tuple[Whole, Whole] | None = Field(None, description="[LOW, HIGH] of whole numbers, both ends included.")
    choice: list[Any] | None = Field(None, description="List of values.")
    points: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None, description="Values that a grid search takes of a range, evenly spaced, both ends included."
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [name for name in (*RANGES, "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of log_uniform, uniform, integer and choice, for example {log_uniform: [1.0e-4, 1.0e-2]}"
            )
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice: the list is empty; give at least one value")
            if self.points is not None:
                raise ValueError("points: a choice lists its values itself; leave points out")
            if any(value in self.choice[:position] for position, value in enumerate(self.choice)):
                raise ValueError("choice: a value stands there twice; write each once")
            return self
        low, high = self.ends
        if not low < high:
            raise ValueError(f"{given[0]}: the first end must be below the second; write [LOW, HIGH]")
        if self.log_uniform is not None and low <= 0:
            raise ValueError("log_uniform: both ends must be above 0; take uniform for a range that holds 0")
        if self.integer is not None and self.points is not None and self.points > high - low + 1:
            raise ValueError(f"points: {self.points}, and the range has {high - low + 1:g} whole numbers")
        return self

    @property
    def kind(self) -> str:
        """`log_uniform`, `uniform`, `integer` or `choice`."""
        return next(name for name in (*RANGES, "choice") if getattr(self, name) is not None)

    @property
    def ends(self) -> tuple[float, float]:
        """Of a range."""
        low, high = getattr(self, self.kind)
        return low, high


def _direction_is_known(value: Any) -> Any:
    if isinstance(value, str) and known_facts(value).higher_is_better is None:
        raise ValueError("its name does not say whether higher or lower is better; take for example upstream/loss")
    return value


def _is_offered(value: Any) -> Any:
    if value in NOT_OFFERED:
        instead = "optuna" if value != "bohb" else "optuna with scheduler: asha, which joins TPE and early stopping too"
        raise ValueError(
            "this search of Ray Tune follows the order in which trials end, so a search that was killed could not "
            f"find the same trials again; take random, grid or {instead}"
        )
    return value


class TuneSpec(Frozen):
    """The search for the hyper-parameters of a study's runs."""

    per: list[str] = Field(
        ["model"], description="Settings whose values make a cell with a search of its own, for example [model]."
    )
    space: dict[str, Searched] = Field(
        description="Settings to search, each with {log_uniform: [LOW, HIGH]}, uniform, integer or {choice: […]}."
    )
    num_trials: Annotated[int, Field(gt=0, le=MAX_TRIALS)] | None = Field(
        None, description="Trials of each cell; a grid search counts its own."
    )
    search: Annotated[Literal["random", "grid", "optuna"], BeforeValidator(_is_offered)] = Field(
        "random",
        description=f"How values are picked: random, grid, or optuna (TPE after {STARTUP_TRIALS} random trials, "
        "by the extra `optuna`).",
    )
    max_concurrent: Annotated[int, Field(gt=0, le=1000)] = Field(
        4, description="Of optuna: trials that are suggested at a time, from what all before them came to."
    )
    scheduler: Literal["none", "asha"] = Field(
        "none", description="What stops trials early: none, or asha, which judges them at validations (rungs)."
    )
    grace_period: Annotated[int, Field(gt=0, le=10_000)] = Field(
        1, description="Of asha: number of the first validation at which trials are judged."
    )
    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = Field(
        4,
        description="Of asha: about one in so many trials goes on at a rung, and the next rung is so many times as "
        "many validations away.",
    )
    metric: Annotated[str, BeforeValidator(_direction_is_known), Field(max_length=200)] = Field(
        "upstream/loss", description="What the trials are compared by; its name says which way is better."
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100)] = Field(
        [1000], description="Seeds of every trial, of none of the final runs; a trial's score is the mean over them."
    )
    seed: Seed = Field(0, description="Seed of the draws of the search itself.")
    set: dict[str, Any] = Field(
        {}, description="Further settings of trials alone, for example {fraction: 0.3, protocol.steps: 200}."
    )
    extend: Annotated[int, Field(ge=0, le=20)] = Field(
        0, description="How often a search is extended beyond an edge of its space at which its best trial lies."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.space:
            raise ValueError("space is empty; name a setting, for example learning_rate: {log_uniform: [1e-4, 1e-2]}")
        if self.search != "grid" and self.num_trials is None:
            raise ValueError(f"num_trials is missing; search: {self.search} needs it, for example num_trials: 16")
        if self.search == "optuna" and self.num_trials is not None and self.num_trials <= STARTUP_TRIALS:
            raise ValueError(
                f"num_trials: {self.num_trials}, and optuna draws its first {STARTUP_TRIALS} at random; write more, or "
                "search: random"
            )
        if self.search != "optuna" and "max_concurrent" in self.model_fields_set:
            raise ValueError(
                "max_concurrent: only search: optuna suggests trials from others; leave it out (how many runs train at "
                "a time is said by max_parallel of the back end's section)"
            )
        if self.search == "grid":
            if self.num_trials is not None:
                raise ValueError("num_trials: a grid search counts its own values; leave it out")
            for name, searched in self.space.items():
                if searched.choice is None and searched.points is None:
                    raise ValueError(
                        f"space.{name}: a grid search needs values; add points: 5, or write choice: […] instead"
                    )
            if "seed" in self.model_fields_set:
                raise ValueError("seed: a grid search draws nothing; leave it out")
        idle = sorted(self.model_fields_set & {"grace_period", "reduction_factor"})
        if self.scheduler == "none" and idle:
            raise ValueError(
                f"{idle[0]}: no trial is stopped early without scheduler: asha; write that or leave it out"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one stands there twice; write each once")
        return self
