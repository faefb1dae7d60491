"""Class numbers of a data set by the list of classes that --classes gives."""

from collections.abc import Sequence
from typing import NamedTuple

from scaling.data.format.class_names import ClassNames
from scaling.errors import UserError, did_you_mean


class Renumbering(NamedTuple):
    """From the class numbers of a data set to those of the classes that were asked for."""

    classes: Sequence[str]
    numbers: Sequence[int] | None
    """New number of each old one, -1 for a class that is not among them; None to keep the numbers."""

    def apply(self, labels: list[int], names: Sequence[str]) -> list[int]:
        """The new numbers of a sample; UserError names a class that is not among those asked for."""
        if self.numbers is None:
            return labels
        new = [self.numbers[label] for label in labels]
        if -1 in new:
            name = names[labels[new.index(-1)]]
            raise UserError(f"--classes does not name the class {name!r}; {did_you_mean(name, self.classes)}")
        return new


def renumber(names: Sequence[str], given: ClassNames | None) -> Renumbering:
    """Classes of `names` by the list that --classes gives, matched by name."""
    if given is None or given.names == tuple(names):
        return Renumbering(names, None)
    order = {name: number for number, name in enumerate(given.names)}
    return Renumbering(given.names, [order.get(name, -1) for name in names])
