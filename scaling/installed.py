"""What installed packages add to this one: objects that their entry points name, loaded when first asked for.

Groups: `scaling.models` (a `Family`), `scaling.evaluations` (an `EvaluationKind`), `scaling.backends` (a class of the
job contract) and `analysis.figures` (a function of the records). CONTRIBUTING.md has an example of each.
"""

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, TypeVar

from scaling.errors import UserError

Kind = TypeVar("Kind")


def load_installed(group: str, kind: type[Kind]) -> dict[str, Kind]:
    """Name -> object of every entry point of `group`; UserError for one that cannot be loaded or is no `kind`."""
    found: dict[str, Kind] = {}
    for point in sorted(metadata.entry_points(group=group), key=lambda point: point.name):
        place = f"entry point {point.name!r} of group {group!r} ({point.value})"
        try:
            loaded: Any = point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{place} cannot be loaded ({error}); mend or uninstall its package") from error
        if not isinstance(loaded, kind):
            raise UserError(f"{place} gives {type(loaded).__name__}, not {kind.__name__}; point it at one")
        found[point.name] = loaded
    return found


class Extensible(Mapping[str, Kind]):
    """Our own entries by name, and those of installed packages, which may not take a name of ours."""

    def __init__(self, group: str, kind: type[Kind], own: Mapping[str, Kind]) -> None:
        self._group, self._kind, self._own = group, kind, own
        self._all: dict[str, Kind] | None = None

    def _entries(self) -> dict[str, Kind]:
        if self._all is None:
            added = load_installed(self._group, self._kind)
            taken = sorted(set(added) & set(self._own))
            if taken:
                raise UserError(f"entry point {taken[0]!r} of group {self._group!r}: the name is taken; rename it")
            self._all = {**self._own, **added}
        return self._all

    def __getitem__(self, name: str) -> Kind:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())
