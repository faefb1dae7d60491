"""The values of trials: drawn at random or taken from a grid, and further ones beyond an edge.

Pure. A random draw is a function of the search's seed, the cell and its own number, so that more trials leave the
earlier ones as they are. Drawn numbers are rounded to three digits, which people can read and write again.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.data.select.random_streams import RandomStream, generator
from scaling.records.files import canonical_json, content_digest
from scaling.records.scores.search import Side
from scaling.records.scores.search_plan import Space

Values = dict[str, Any]

DIGITS = 3
"""Of drawn numbers."""

TRIES = 50
"""Draws for each trial that is wanted, before a space is taken to hold no further values."""

EXTENSION = 0.5
"""By how much of its first width (of its orders of magnitude, where it is logarithmic) a range is extended."""


def random_values(
    space: Space, count: int, seed: int, cell: Mapping[str, Any], *, key: int = 0, taken: Sequence[Values] = ()
) -> list[Values]:
    """`count` different draws, none of them among `taken`; fewer where the space does not hold as many. `key` tells
    rounds of a search apart."""
    found: dict[str, Values] = {}
    old = {canonical_json(values) for values in taken}
    for number in range(TRIES * count):
        values = _draw(space, seed, cell, key, number)
        text = canonical_json(values)
        if text not in old:
            found.setdefault(text, values)
        if len(found) == count:
            return list(found.values())
    return list(found.values())


def grid_values(space: Space, taken: Sequence[Values] = ()) -> list[Values]:
    """Every combination of lists that is not among `taken`, the last setting varying fastest."""
    old = {canonical_json(values) for values in taken}
    rows = itertools.product(*(space[name]["choice"] for name in space))
    combinations = [dict(zip(space, row, strict=True)) for row in rows]
    return [values for values in combinations if canonical_json(values) not in old]


def as_lists(space: Mapping[str, Mapping[str, Any]]) -> Space:
    """What a grid searches: ranges as lists of their `points`, evenly spaced with both ends."""
    lists: Space = {}
    for name, searched in space.items():
        kind = kind_of(searched)
        values = searched[kind]
        if kind != "choice":
            (low, high), points = values, searched["points"]
            values = [_between(kind, low, high, index / (points - 1)) for index in range(points)]
        lists[name] = {"choice": list({canonical_json(value): value for value in values}.values())}
    return lists


def extended(space: Space, first: Space, best: Values, edges: Mapping[str, Side]) -> tuple[Space, list[Space]]:
    """The space with its settings extended beyond these edges, and for each of them the part that was not searched:
    a range from its best value on, or the further value of a list, with all that the other settings cover.

    `first` is the space as the sweep has it: a range is extended by half of its first width, a list by the ratio
    (of positive numbers) or the difference of its last two values.
    """
    whole, rest = dict(space), Space()
    for name, side in edges.items():
        kind = kind_of(space[name])
        values = space[name][kind]
        if kind == "choice":
            further = _next_of_list(values, side)
            whole[name], rest[name] = {kind: [*values, further]}, {kind: [further]}
        else:
            beyond = _beyond(kind, values, first[name][kind], side)
            whole[name] = {kind: [beyond, values[1]] if side == "low" else [values[0], beyond]}
            rest[name] = {kind: [beyond, best[name]] if side == "low" else [best[name], beyond]}
    return whole, [{**whole, name: part} for name, part in rest.items()]


def kind_of(searched: Mapping[str, Any]) -> str:
    """`log_uniform`, `uniform`, `integer` or `choice`."""
    return next(name for name in searched if name != "points")


def _draw(space: Space, seed: int, cell: Mapping[str, Any], key: int, number: int) -> Values:
    """One independent draw; every setting has random numbers of its own."""
    place = int(content_digest({"cell": cell})[:15], 16)
    shares = {}
    for name in space:
        own = int(content_digest({"setting": name})[:15], 16)
        shares[name] = float(generator(seed, RandomStream.SEARCH, place, key, number, own).random())
    return {name: _at(space[name], share) for name, share in shares.items()}


def _at(searched: Mapping[str, Any], share: float) -> Any:
    """The value below which this share of the distribution lies; `share` from 0 to below 1."""
    kind = kind_of(searched)
    if kind == "choice":
        options: Sequence[Any] = searched[kind]
        return options[int(share * len(options))]
    low, high = searched[kind]
    if kind == "integer":
        return int(low) + int(share * (int(high) - int(low) + 1))
    return _between(kind, low, high, share)


def _between(kind: str, low: float, high: float, share: float) -> float:
    """The value at this share of the way from one end to the other, on the range's own scale, rounded."""
    value = low * (high / low) ** share if kind == "log_uniform" else low + share * (high - low)
    return settled(kind, low, high, value)


def settled(kind: str, low: float, high: float, value: float) -> float:
    """A number of a range as it is tried: a whole one, or one with few digits, and never beyond the range."""
    if kind == "integer":
        return round(value)
    return min(max(rounded(value), low), high)


def _beyond(kind: str, ends: Sequence[float], first: Sequence[float], side: Side) -> float:
    """The further end of a range that is extended at one side."""
    low, high = first
    if kind == "log_uniform":
        factor = (high / low) ** EXTENSION
        return rounded(ends[0] / factor) if side == "low" else rounded(ends[1] * factor)
    width = (high - low) * EXTENSION
    if kind == "integer":
        width = max(1, round(width))
        return int(ends[0] - width) if side == "low" else int(ends[1] + width)
    return rounded(ends[0] - width) if side == "low" else rounded(ends[1] + width)


def _next_of_list(values: Sequence[Any], side: Side) -> float:
    """The number that follows the last one of a list of numbers at one side."""
    ordered = sorted(value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    last, before = (ordered[0], ordered[1]) if side == "low" else (ordered[-1], ordered[-2])
    if ordered[0] > 0 and not all(isinstance(value, int) for value in ordered):
        return rounded(last * last / before)
    further = 2 * last - before
    return further if isinstance(further, int) else rounded(further)


def rounded(value: float) -> float:
    """To three digits."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
