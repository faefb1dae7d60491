"""What a plan says of a search: the place of a trial in it, and in a final run what was chosen and from which trials.

A *cell* is a group of final runs with one search, named by the settings that its runs share. A *trial* is one draw of
the searched settings; it is a run for each of the search's seeds. Values are those of a sweep file, as plain JSON.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from scaling.records.reading import Frozen

Space = dict[str, dict[str, Any]]
"""By setting: `{"log_uniform": [1e-4, 1e-2]}`, or uniform, integer, choice."""


class TrialPlan(Frozen):
    """The place of a run in the search of its cell."""

    cell: dict[str, Any]
    """The settings that make the cell; empty where one search serves the whole study."""
    number: int
    """Of the trial in its cell, from 0. Runs with one number differ in their seed alone."""
    round: int = 0
    """0, or k for the k-th time that the search was extended beyond an edge of its space."""
    values: dict[str, Any]
    """The searched settings."""
    space: Space
    """What is searched up to this round."""
    search: str
    """`random`, `grid` or `optuna`."""
    metric: str
    """What trials are compared by."""
    rungs: tuple[int, ...] = ()
    """Optimiser steps of the validations at which the trial may be stopped because others do better; empty where the
    search stops none."""
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    """Of the trials that reach a rung, about one in so many goes on; says nothing without rungs."""


class TrialScore(Frozen):
    """What one trial came to."""

    number: int
    values: dict[str, Any]
    run_ids: tuple[str, ...]
    score: float | None
    """Mean over its runs, in stored units; None where some run has no number."""
    problem: str = ""
    """Why it has no score."""
    stopped_step: int | None = None
    """Optimiser steps after which the search had it out; None where it did not."""


class ChoicePlan(Frozen):
    """What a search chose for a final run, as it stood when the run was planned."""

    cell: dict[str, Any]
    metric: str
    number: int
    """Of the chosen trial."""
    values: dict[str, Any]
    """Its settings, which are those of this run."""
    at_edge: dict[str, Literal["low", "high"]]
    """Settings of which nothing was tried on one side of the chosen value."""
    trials: tuple[TrialScore, ...]
    """All trials of the cell, in their order."""
