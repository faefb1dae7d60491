"""The 19 tasks of VTAB-1k as a builder sees them: how many images and classes, and where the images come from.

Counts are read from the suite file that evaluations use, so that there is one table of them. Sources are in
`tasks.yaml`.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from scaling.errors import UserError, did_you_mean

PREFIX = "vtab:"
"""Of a source of `scaling.data build`."""
TRAIN, VAL, TRAIN_VAL, TEST = "train800", "val200", "train800val200", "test"
"""Splits of every task; the third is the union of the first two."""


@dataclass(frozen=True)
class VtabTask:
    """One task: what it must come to, and how it is had."""

    name: str
    num_classes: int
    counts: dict[str, int]
    """Images of each split."""
    torchvision: dict[str, Any] | None = None
    """`class` of torchvision.datasets, and `parts`: arguments by part (train, val, test)."""
    hub: str = ""
    """Name of a data set on Hugging Face."""
    reader: str = ""
    folder: str = ""
    """Class folders, relative to where torchvision puts them."""
    total: int = 0
    """Images of a data set without splits, from which all of them are drawn; 0 where that is no matter."""
    train_per_class: int = 0
    """Images of each class that are no test images, where the data set has no test split; 0 where that is no matter."""
    by_hand: str = ""
    """Why and how it is had by hand."""


def find_task(name: str) -> VtabTask:
    """The task of this name; UserError with the nearest name where there is none."""
    tasks = all_tasks()
    if name not in tasks:
        raise UserError(f"{PREFIX}{name}: VTAB-1k has no such task; {did_you_mean(name, tasks, 20)}")
    return tasks[name]


@cache
def all_tasks() -> dict[str, VtabTask]:
    """Every task by name, in the order of the suite."""
    suite = yaml.safe_load((files("scaling") / "evals" / "suites" / "vtab-1k.yaml").read_text(encoding="utf-8"))
    ways = yaml.safe_load((files(__package__) / "tasks.yaml").read_text(encoding="utf-8"))
    return {
        member["name"]: VtabTask(
            name=member["name"],
            num_classes=member["num_classes"],
            counts=member["splits"],
            **ways[member["name"]],
        )
        for member in suite["members"]
    }
