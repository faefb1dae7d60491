"""What a build remembers beside its shards: which are complete, and which samples could not be packed.

With it a build that was stopped, or ended because of bad samples, continues where it was, also after those samples
have been repaired or taken out of the source.
"""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling.data.tools.sources.source import Source
from scaling.errors import UserError
from scaling.records.files import write_text_atomic
from scaling.records.reading import is_intact, seal_line

logger = logging.getLogger(__name__)

JOURNAL = "build.jsonl"

BAD_LIST = "bad-samples.txt"
"""Samples that could not be packed, beside the journal."""

MAX_BAD = 10_000
"""Samples that cannot be packed before a build stops looking for more."""

MAX_TOLD = 10
"""Of them in a message."""


@dataclass(frozen=True)
class WrittenShard:
    """A row of the journal."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str
    class_counts: dict[str, int] = field(default_factory=dict)
    """Samples by class number, as text because JSON keys are texts."""
    label_pieces: list[dict[str, int]] = field(default_factory=list)
    """Samples of each piece of the shard by their first label (`format.homogeneity`)."""
    skipped: list[str] = field(default_factory=list)
    """References of samples that were left out because they cannot be packed."""


class BuildJournal:
    """Shards that are complete, and samples that could not be packed, one JSON line each after a header that says
    what is being built. Each line has a CRC-32: a shard whose line is damaged is written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shards: dict[str, WrittenShard] = {}
        self.bad: dict[int, bytes] = {}
        """Bad samples of earlier attempts by their place in the listing."""
        self.removed: set[bytes] = set()
        """Those of them that the source does not list any more."""
        # What follows the last line feed is a row that a crash cut off.
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        damaged = {number for number, line in enumerate(lines, start=1) if not is_intact(line)}
        if damaged:
            logger.warning("%s: line %d is damaged; what it tells of is done again", path, min(damaged))
        if 1 in damaged:
            raise UserError(f"{path} is broken (its first line is damaged); remove {path.parent} and build again")
        self._rows = [json.loads(line) for number, line in enumerate(lines, start=1) if number not in damaged]
        for row in self._rows:
            del row["crc32"]
        try:
            for row in self._rows[1:]:
                if "bad" in row:
                    self.bad[int(row["position"])] = str(row["bad"]).encode()
                else:
                    shard = WrittenShard(**row)
                    self._shards[shard.name] = shard
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is broken ({error}); remove {path.parent} and build again") from error

    def open(self, header: dict[str, Any]) -> None:
        """Begin, or resume the same build; another one is refused."""
        if self._rows and self._rows[0] != header:
            raise UserError(f"{self._path.parent} holds an unfinished build {_difference(self._rows[0], header)}")
        self._rows = [header, *self._rows[1:]]
        self._rewrite()

    def find(self, path: Path) -> WrittenShard | None:
        """The shard that is complete already; one without samples that are still listed is written again."""
        shard = self._shards.get(path.name)
        if shard is None or not {line.encode() for line in shard.skipped} <= self.removed:
            return None
        return shard if path.exists() and path.stat().st_size == shard.num_bytes else None

    def add(self, shard: WrittenShard) -> None:
        self._rows.append(asdict(shard))
        with self._path.open("ab") as stream:
            stream.write(seal_line(self._rows[-1]))

    def add_bad(self, bad: dict[int, bytes]) -> None:
        """Remember samples that could not be packed by their places in the listing."""
        rows = [{"position": position, "bad": line.decode()} for position, line in sorted(bad.items())]
        self._rows = [*(row for row in self._rows if "bad" not in row), *rows]
        self._rewrite()

    def remove(self) -> None:
        self._path.unlink()

    def _rewrite(self) -> None:
        write_text_atomic(self._path, b"".join(map(seal_line, self._rows)).decode())


def _difference(before: Any, header: dict[str, Any]) -> str:
    """How the build that was begun is not this one, and what to do."""
    fresh = "finish that one or build into an empty folder"
    changed = [name for name in header if not isinstance(before, dict) or before.get(name) != header[name]]
    if changed == ["classes"] or changed == ["listing", "classes"]:
        gone = [name for name in before["classes"] if name not in header["classes"]]
        new = [name for name in header["classes"] if name not in before["classes"]]
        told = [f"{', '.join(map(repr, gone[:3]))} is gone"] if gone else []
        told += [f"{', '.join(map(repr, new[:3]))} is new"] if new else []
        return (
            f"of other classes ({'; '.join(told) or 'they were in another order'}), by which its shards are numbered; "
            "name its classes with --classes FILE to go on, or build into an empty folder"
        )
    if changed == ["listing"]:
        return (
            "of other samples: files were added, renamed or labelled anew since, and those alone that could not be "
            f"packed may be mended or taken out; {fresh}"
        )
    return f"from another source or with other settings ({', '.join(changed)}); {fresh}"


class BadSamples:
    """Samples that cannot be packed, with the reasons. Threads share one."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._reasons: dict[bytes, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def is_beyond_allowance(self) -> bool:
        return len(self._reasons) > self._allowed

    def add(self, line: bytes, reason: str) -> None:
        with self._lock:
            self._reasons[line] = reason
            if len(self._reasons) > max(MAX_BAD, self._allowed):
                raise UserError(
                    f"more than {MAX_BAD:,} samples cannot be packed, at last {reason}; is it the right source?"
                )

    def lines(self) -> set[bytes]:
        return set(self._reasons)

    def reasons(self) -> list[str]:
        """In an order that does not depend on threads."""
        return sorted(self._reasons.values())

    def error(self, path: Path, allowed: int) -> UserError:
        """All of them are written to `path`; the first ones are named."""
        reasons = self.reasons()
        write_text_atomic(path, "".join(f"{reason}\n" for reason in reasons))
        more = f" and {len(reasons) - MAX_TOLD:,} more," if len(reasons) > MAX_TOLD else ","
        counted = "1 sample" if len(reasons) == 1 else f"{len(reasons):,} samples"
        return UserError(
            f"{counted} cannot be packed: {'; '.join(reasons[:MAX_TOLD])}{more} listed in {path}; repair them or take "
            f"them out of the source, or say --skip-bad {len(reasons)} (now {allowed}), and start again: the other "
            "shards are kept"
        )


def reference_lines(source: Source, journal: BuildJournal) -> Iterator[bytes]:
    """A line of JSON per reference; those that were bad in an earlier attempt and have been taken out of the source
    since then stand in their places, so that all others keep theirs."""
    position = 0
    for reference in source.references():
        line = json.dumps(reference).encode()
        while (missing := journal.bad.get(position)) is not None and missing != line:
            journal.removed.add(missing)
            yield missing
            position += 1
        yield line
        position += 1
    while (missing := journal.bad.get(position)) is not None:
        journal.removed.add(missing)
        yield missing
        position += 1


def places_of_bad(source: Source, journal: BuildJournal, bad: BadSamples) -> dict[int, bytes]:
    """Where in the listing the bad samples are, with those of earlier attempts that have been taken out."""
    wanted = bad.lines() | journal.removed
    return {place: line for place, line in enumerate(reference_lines(source, journal)) if line in wanted}


def sample_name(line: bytes) -> str:
    """A reference in readable form: a path, or the numbers of shard and sample."""
    reference = json.loads(line)
    return reference[0] if isinstance(reference, list) and isinstance(reference[0], str) else line.decode()
