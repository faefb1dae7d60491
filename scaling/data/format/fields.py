"""The fields of a manifest file, checked one by one as they are taken, so that every refusal names file and field."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError

REMAKE = "make it again with 'python -m scaling.data index' or 'make'"


@dataclass(frozen=True)
class ManifestFields:
    """A JSON object of a manifest file, whose fields are checked as they are taken."""

    path: Path | str
    body: Mapping[str, Any]

    @property
    def folder(self) -> Path | str:
        return self.path.parent if isinstance(self.path, Path) else self.path.rpartition("/")[0]

    def get(self, name: str, kind: type) -> Any:
        if name not in self.body:
            raise self.error(name, "is missing")
        value = self.body[name]
        if type(value) is not kind:
            raise self.error(name, f"is of type {type(value).__name__}, but must be {kind.__name__}")
        return value

    def number(self, name: str, smallest: int, largest: int) -> int:
        value: int = self.get(name, int)
        if not smallest <= value <= largest:
            raise self.error(name, f"{str(value)[:30]} is not from {smallest} to {largest:,}")
        return value

    def error(self, name: str, problem: str) -> UserError:
        return UserError(f"manifest {self.path}: {name}: {problem}; {REMAKE}")
