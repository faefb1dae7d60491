"""How long something lasts, written once with one suffix.

`500_000` or `"500_000 steps"` counts optimiser steps, `"1.5M examples"` counts training examples with
repetitions, `"7 epochs"` counts passes over the run's own subset, and `"2%"` is a share of the whole run.
It is rounded to the nearest whole step, but never below one when the duration is positive: an interval of zero
steps would mean "never" where the user wrote "often".
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

Unit = Literal["steps", "examples", "epochs", "percent"]

_UNITS: dict[str, Unit] = {
    "": "steps",
    "step": "steps",
    "steps": "steps",
    "example": "examples",
    "examples": "examples",
    "epoch": "epochs",
    "epochs": "epochs",
    "%": "percent",
    "percent": "percent",
}
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}
MAX_AMOUNT = 1e12
"""In any unit; a run of more steps or examples does not end in a lifetime."""

_FORM = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kKMB]?)\s*([A-Za-z%]*)\s*$")


@dataclass(frozen=True, slots=True)
class Duration:
    """A non-negative length of training in one unit."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a number (steps) or a text with one suffix; ValueError says the rule."""
        if isinstance(value, cls):
            return value
        rule = 'a duration is a number of steps or a text such as "10_000 steps", "2 epochs", "1M examples" or "5%"'
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(rule)
        match = _FORM.match(str(value)) if isinstance(value, int | float) or len(value) <= 100 else None
        if match is None or match[3].lower() not in _UNITS:
            raise ValueError(rule)
        unit = _UNITS[match[3].lower()]
        amount = float(match[1].replace("_", "")) * _SCALE[match[2]]
        if amount > MAX_AMOUNT:
            raise ValueError(f"it is more than {MAX_AMOUNT:.0e}; {rule}")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"{value} is not a whole number of steps; {rule}")
        if unit == "percent" and amount > 100:
            raise ValueError(f"{value} is more than the whole run; write at most 100%")
        return cls(amount, unit)

    def to_steps(self, *, batch: int, num_samples: int, total_steps: int | None = None) -> int:
        """Whole optimiser steps at this global `batch` on a subset of `num_samples` images.

        A percentage needs `total_steps`, the length of the run it is a share of.
        """
        if self.unit == "percent":
            if total_steps is None:
                raise ValueError("a percentage is a share of the run's length, so it cannot say that length itself")
            exact = self.amount * total_steps / 100
        else:
            per_step = {"steps": 1.0, "examples": 1 / batch, "epochs": num_samples / batch}[self.unit]
            exact = self.amount * per_step
        return max(1, round(exact)) if self.amount > 0 else 0

    def __str__(self) -> str:
        number = f"{self.amount:g}" if self.amount < 1e6 else f"{self.amount:.0f}"
        return f"{number}%" if self.unit == "percent" else f"{number} {self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _FORM.pattern}],
            "description": "steps, examples, epochs or a percentage, e.g. 10000, '2 epochs', '5%'",
        }
