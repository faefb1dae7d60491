"""The rules of `exclude`, `overrides` and `launch.slurm.overrides`: which runs they fit, and that each fits one.

A rule goes by what a run has, whoever says so: the study, else the recipe, else the default. One that fits no run has a
misspelt value, or is left over, and the study would train other runs than the one that was meant.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from scaling.errors import UserError, shown
from scaling.spec.document import Document, KeyPath
from scaling.spec.duration import Duration
from scaling.spec.recipe import recipe_values
from scaling.spec.settings import RunSettings, matches
from scaling.spec.study import setting_adapter

logger = logging.getLogger(__name__)

Rule = Mapping[str, Any]
"""Settings and `protocol.` fields with the values wanted of them; every one has to fit (`settings.matches`)."""

DEFINE_RUNS = ("grid", "zip", "include", "exclude", "overrides", "defaults", "protocol", "tune")
"""Fields of a study by which a `--set` option changes what the runs are."""


Has = Callable[[str], Any]
"""What one run has for a setting or a `protocol.` field, by its name."""


class Rules:
    """The rules of one study by their places; remembers which of them, and of the values in their lists, fitted."""

    def __init__(self, rules: Mapping[KeyPath, Rule], protocol: Any) -> None:
        self._written = rules
        self._protocol = protocol
        # Parsed once and not for every run that they fit.
        self._parsed = {place: _parsed_rule(rule, protocol) for place, rule in rules.items()}
        self._fitting: set[KeyPath] = set()

    @property
    def places(self) -> tuple[KeyPath, ...]:
        return tuple(self._parsed)

    def fit(self, places: Iterable[KeyPath], values: Mapping[str, Any]) -> bool:
        """Whether a rule at one of the places fits a run of which the study writes `values`."""
        fitted = False
        for place in places:
            rule = self._parsed[place]
            known = self._completed(values, rule)
            if not matches(rule, known):
                continue
            fitted = True
            self._fitting.add(place)
            for name, position in _items(rule):
                if matches({name: rule[name][position]}, known):
                    self._fitting.add((*place, name, position))
        return fitted

    def check_each_fits(self, document: Document, runs: Sequence[Has]) -> None:
        """`refuse_idle` for a rule that has fitted none, and a value of its lists."""
        for place, rule in self._parsed.items():
            if place not in self._fitting:
                words = ", ".join(f"{name}: {shown(wanted)}" for name, wanted in self._written[place].items())
                refuse_idle(document, place, f"{words} fits no run{_instead(rule, runs)}")
        for place, rule in self._parsed.items():
            for name, position in _items(rule):
                item = (*place, name, position)
                if place in self._fitting and item not in self._fitting:
                    wanted = shown(self._written[place][name][position])
                    refuse_idle(document, item, f"{wanted} fits no run that the rest fits")

    def _completed(self, values: Mapping[str, Any], rule: Rule) -> Mapping[str, Any]:
        """The values with those that a run has, and the study does not write, of the rule's fields."""
        missing = [name for name in rule if name not in values]
        if not missing:
            return values
        recipe: Mapping[str, Any] = {}
        if values.get("recipe"):
            with contextlib.suppress(UserError):  # Told where the run takes its recipe.
                recipe = recipe_values(values["recipe"], values)
        return {**values, **{name: self._unwritten(name, recipe) for name in missing}}

    def _unwritten(self, name: str, recipe: Mapping[str, Any]) -> Any:
        if name in recipe:
            return _parsed(name, recipe[name], self._protocol)
        field = RunSettings.model_fields.get(name)
        return _of_protocol(name, self._protocol) if field is None else field.default


def refuse_idle(document: Document, place: KeyPath, problem: str) -> None:
    """UserError for something that is written for no run of the study, so that it would do nothing without a word. A
    warning where `--set` changed what the runs are, as it was written for others."""
    error = document.error(place, problem)
    if document.is_from_option(place) or not document.is_narrowed(DEFINE_RUNS):
        raise UserError(f"{error}; correct it, or take it out")
    logger.warning("%s", error)


def _items(rule: Rule) -> list[tuple[str, int]]:
    """Field and position of every value that a rule lists."""
    return [(name, i) for name, wanted in rule.items() if isinstance(wanted, list) for i in range(len(wanted))]


def _parsed_rule(rule: Rule, protocol: Any) -> dict[str, Any]:
    """The rule with values as runs have them, so that `2%` fits a duration; what is no value of the setting, such as a
    text with * and ?, stays as it is written. A list is several values, unless the setting is such a list itself."""
    parsed = {}
    for name, wanted in rule.items():
        whole = _parsed(name, wanted, protocol)
        is_several = isinstance(wanted, list) and not isinstance(whole, tuple)
        parsed[name] = [_parsed(name, item, protocol) for item in wanted] if is_several else whole
    return parsed


def _parsed(name: str, value: Any, protocol: Any) -> Any:
    with contextlib.suppress(ValueError):  # Pydantic's errors are such.
        if name in RunSettings.model_fields:
            return setting_adapter(name).validate_python(value)
        if isinstance(_of_protocol(name, protocol), Duration):
            return Duration.parse(value)
    return value


def _of_protocol(name: str, protocol: Any) -> Any:
    return getattr(protocol, name.removeprefix("protocol."), None)


def _instead(rule: Rule, runs: Sequence[Has]) -> str:
    """What the runs have in the first field that none of them has as the rule wants it."""
    for name, wanted in rule.items():
        values = {str(value): value for value in (has(name) for has in runs)}
        if not any(matches({name: wanted}, {name: value}) for value in values.values()):
            texts = ["not written" if value is None else text for text, value in values.items()][:5]
            return f": {name} is {', '.join(texts)}{' and so on' if len(values) > 5 else ''}"
    return ", as none has all of it"
