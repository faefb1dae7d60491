"""Rows of throughput that nobody measured."""

from typing import Any

from scaling.records.scores.throughput import ThroughputRow


def make_row(
    model: str = "mixer-b/32", rates: tuple[float, ...] = (90.0, 100.0, 110.0), **fields: Any
) -> ThroughputRow:
    """A row of a quiet machine."""
    facts: dict[str, Any] = {
        "model": model,
        "image_size": 224,
        "num_classes": 1000,
        "work": "inference",
        "precision": "fp32",
        "images_per_second": 100.0,
        "lower_quartile": 95.0,
        "upper_quartile": 105.0,
        "rates": rates,
        "repeat_seconds": 1.0,
        "batch": 64,
        "search": ((32, 80.0), (64, 100.0), (128, 99.0)),
        "search_rule": "doubled",
        "search_end": "no gain",
        "timer": "wall clock",
        "device": "Test CPU",
        "threads": 1,
        "packages": {"torch": "2.0", "timm": "1.0"},
        "version": "0.1.0",
        "unix_time": 0.0,
    }
    return ThroughputRow.model_validate(facts | fields)
