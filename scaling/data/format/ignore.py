"""Patterns of what is left out of a data set (`--ignore`), which know whether they ever matched."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from scaling.errors import UserError


class Ignore:
    """Shell patterns of paths; threads may share one."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.patterns = tuple(patterns)
        self._matched: set[str] = set()

    @classmethod
    def of_command_line(cls, patterns: Sequence[str]) -> "Ignore":
        """UserError for one that can match nothing but itself by mistake."""
        for pattern in patterns:
            if not pattern:
                raise UserError(
                    "--ignore '': an empty pattern matches nothing; write one such as '*.gif', or leave it out"
                )
            if _is_open(pattern):
                raise UserError(
                    f"--ignore {pattern!r}: its '[' has no ']'; close it, or write '[[]' for the character itself"
                )
        return cls(patterns)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, path: str) -> bool:
        """Whether a path, or its last part, matches one of the patterns."""
        name = path.rpartition("/")[2]
        found = [pattern for pattern in self.patterns if fnmatchcase(path, pattern) or fnmatchcase(name, pattern)]
        self._matched.update(found)
        return bool(found)

    def describe_unmatched(self) -> list[str]:
        """A line for each pattern that nothing has matched."""
        return [
            f"--ignore {pattern!r} matches nothing: patterns are of whole paths or file names, as 'drafts/*' or '*.gif'"
            for pattern in dict.fromkeys(self.patterns)
            if pattern not in self._matched
        ]


def _is_open(pattern: str) -> bool:
    """Whether a `[` is not closed, so that it would stand for itself."""
    start = pattern.find("[")
    while start >= 0:
        first = start + 1 + (pattern[start + 1 : start + 2] == "!")
        end = pattern.find("]", first + 1)  # A `]` that comes first is one of the characters.
        if end < 0:
            return True
        start = pattern.find("[", end + 1)
    return False
