"""What a device-hour costs in money, as a study's sweep says (`launch: {price_per_device_hour, currency}`).

The price is of the study and of no run: a corrected price changes what all runs are said to have cost, and trains
nothing again.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Price:
    """Of one device, by the hour."""

    per_device_hour: float
    currency: str
    """As ISO 4217 writes it: EUR, USD."""

    @classmethod
    def of(cls, per_device_hour: float | None, currency: str | None) -> Self | None:
        """None where no price is given."""
        return cls(per_device_hour, currency or "") if per_device_hour is not None else None

    def of_hours(self, device_hours: float) -> float:
        """Money for so much time of devices."""
        return self.per_device_hour * device_hours

    def text(self, device_hours: float) -> str:
        """`12.40 USD at 2.5 USD a device-hour`"""
        amount = money_text(self.of_hours(device_hours), self.currency)
        return f"{amount} at {self.per_device_hour:g} {self.currency} a device-hour"


def money_text(amount: float, currency: str) -> str:
    """Two decimals, and more where that would be nothing."""
    return f"{amount:,.2f} {currency}" if amount >= 0.1 or amount == 0 else f"{amount:.2g} {currency}"


def sweep_price(sweep: Mapping[str, Any]) -> Price | None:
    """The price in a study's frozen sweep; None where it has none."""
    launch = sweep.get("launch")
    if not isinstance(launch, dict):
        return None
    per_hour, currency = launch.get("price_per_device_hour"), launch.get("currency")
    if not isinstance(per_hour, int | float) or isinstance(per_hour, bool) or not 0 < per_hour < math.inf:
        return None
    is_currency = isinstance(currency, str) and re.fullmatch(r"[A-Z]{3}", currency)
    return Price(float(per_hour), str(currency)) if is_currency else None
