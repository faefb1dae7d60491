"""Whether settings fit a rule such as {model: "vit-*", seed: [0, 1]}: what exclude, overrides and recipes go by."""

import fnmatch
from collections.abc import Mapping
from typing import Any


def matches(rule: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Every field of the rule is a value, a list of values or a text with * and ?, and fits."""
    return all(name in values and _fits(wanted, values[name]) for name, wanted in rule.items())


def _fits(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(option, value) for option in wanted)
    if isinstance(wanted, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value, wanted)
    return bool(wanted == value)
