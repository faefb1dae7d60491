"""`python -m scaling.plan.count_zoo`: count every named model again and write the table that planning reads.

To be run after a change to the models or to how FLOPs are counted; takes a minute or two.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.errors import run_command
from scaling.models.registry import default_image_size
from scaling.models.zoo import PAPER_FAMILIES
from scaling.plan.count_models import count
from scaling.plan.zoo_counts import COUNTS, TABLE, ModelQuery
from scaling.records.files import write_text_atomic

VARIANTS = {"vit": ("{}", '{"pre_logits":"none"}')}
"""Options that change counts and are usual enough to be in the table, by family; every family has its defaults."""

CLASSES = (1, 1001)
"""Two points of a line."""


def zoo() -> list[tuple[str, str]]:
    """Name and options of every row."""
    return [
        (spec.name, options)
        for family in PAPER_FAMILIES
        for options in VARIANTS.get(family.name, ("{}",))
        for spec in family.models
    ]


def count_rows(models: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The rows of these models, counted by `scaling.models`."""
    counted = [
        count([ModelQuery(name, default_image_size(name), num_classes, options) for name, options in models])
        for num_classes in CLASSES
    ]
    rows = []
    for (name, options), low, high in zip(models, *counted, strict=True):
        assert not low.mixes_examples and not low.draws, (
            f"{name} depends on its micro-batch, and the table cannot say so"
        )
        row = {"model": name, "options": options}
        for field in COUNTS:
            first, second = int(getattr(low, field)), int(getattr(high, field))
            a_class, rest = divmod(second - first, CLASSES[1] - CLASSES[0])
            assert rest == 0, f"{field} of {name} is not linear in the number of classes"
            row |= {field: str(first - CLASSES[0] * a_class), f"{field}_a_class": str(a_class)}
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table; returns the exit code."""
    rows = count_rows(zoo())
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomic(Path(str(TABLE)), stream.getvalue())
    print(f"{len(rows)} models counted into {TABLE}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
