"""Shards from a source: every sample once, in globally random order or as listed, with a manifest.

The original encoded bytes are kept unless `max_side` asks for smaller images. A build can be stopped at any moment
and started again: finished shards are listed in a journal beside them and not written again, provided that source and
settings are still the same. Samples that cannot be packed are all found in one pass; they can then be repaired, taken
out of the source or skipped by number, and the shards without them are not written again. Memory holds one shuffled
part of the references and one image per thread.
"""

import hashlib
import io
import itertools
import json
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scaling.data.format.checksum import file_sha256
from scaling.data.format.homogeneity import MAX_COMPARED_SHARDS, NO_LABEL, Homogeneity, compare_label_counts
from scaling.data.format.manifest import Manifest, build_manifest, load_manifest, make_folder
from scaling.data.read.decode import JPEG_MAGIC, DecodeError, decode_rgb
from scaling.data.read.in_order import in_order
from scaling.data.tools.build_sources import BadSampleError, Source
from scaling.data.tools.shuffle_lines import shuffled
from scaling.errors import UserError
from scaling.records.files import sync_folder, write_text_atomic

JOURNAL = "build.jsonl"

BAD_LIST = "bad-samples.txt"
"""Samples that could not be packed, beside the journal."""

MAX_BAD = 10_000
"""Samples that cannot be packed before a build stops looking for more."""

MAX_TOLD = 10
"""Of them in a message."""

JPEG_QUALITY = 90
"""Of images made smaller."""


@dataclass(frozen=True)
class BuildSettings:
    shuffle_seed: int | None
    """None keeps the source's order."""
    shard_samples: int
    max_side: int | None
    """Longest side of an image, pixels; larger ones are resized and encoded again as JPEG."""


@dataclass(frozen=True)
class WrittenShard:
    """A row of the journal."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str
    class_counts: dict[str, int] = field(default_factory=dict)
    """Samples by class number, as text because JSON keys are texts."""
    first_labels: dict[str, int] = field(default_factory=dict)
    """Samples by their first label."""
    skipped: list[str] = field(default_factory=list)
    """References of samples that were left out because they cannot be packed."""


@dataclass(frozen=True)
class BuiltData:
    """A data set that is in its folder, built now or before."""

    manifest: Manifest
    was_there: bool


def build_shards(
    source: Source,
    out: Path,
    settings: BuildSettings,
    *,
    name: str,
    origin: dict[str, Any],
    threads: int = 1,
    skip_bad: int = 0,
    decode: bool = True,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> Manifest:
    """Write `out/shard-*.tar` and `out/manifest.json`; up to `skip_bad` samples that cannot be packed are left out.

    `decode` reads every image to its end, so that broken ones are found now. `progress(done, all, done)`, samples, is
    called per shard.
    """
    return build_or_find(
        source,
        out,
        settings,
        name=name,
        origin=origin,
        threads=threads,
        skip_bad=skip_bad,
        decode=decode,
        progress=progress,
    ).manifest


def build_or_find(
    source: Source,
    out: Path,
    settings: BuildSettings,
    *,
    name: str,
    origin: dict[str, Any],
    threads: int,
    skip_bad: int,
    decode: bool,
    progress: Callable[[int, int, int], None],
) -> BuiltData:
    """As `build_shards`; the same data set that is finished in `out` already is found, another one is refused."""
    make_folder(out)
    path = out / "manifest.json"
    journal = _Journal(out / JOURNAL)
    listing, listing_before, num_samples = _list(source, journal)
    content = {"listing": listing_before, "classes": list(source.classes), "label_type": source.label_type}
    if path.exists():
        return BuiltData(_same_or_refuse(path, {**asdict(settings), "listing": listing}, source), True)
    journal.open({"settings": asdict(settings), **content})
    if num_samples == 0:
        raise UserError("the source lists no images (jpg, jpeg, png or webp); is it the right folder or table?")
    lines = _reference_lines(source, journal)
    if settings.shuffle_seed is not None:
        lines = shuffled(lines, settings.shuffle_seed)
    bad = _BadSamples(skip_bad)
    written: list[WrittenShard] = []
    num_done = 0
    for shard in _write_all(source, out, settings, lines, journal, threads, bad, decode):
        if shard is None:
            continue
        num_done += shard.num_samples + len(shard.skipped)
        progress(num_done, num_samples, num_done)
        if shard.num_samples:
            written.append(shard)
    if len(bad) > skip_bad or not written:
        journal.add_bad(_positions(source, journal, bad))
        raise bad.error(out / BAD_LIST, skip_bad)
    (out / BAD_LIST).unlink(missing_ok=True)
    manifest = build_manifest(
        name=name,
        label_type=source.label_type,
        classes=source.classes,
        folder=out.resolve(),
        urls=[shard.name for shard in written],
        num_samples=[shard.num_samples for shard in written],
        num_bytes=[shard.num_bytes for shard in written],
        sha256=[shard.sha256 for shard in written],
        origin=origin | asdict(settings) | {"listing": listing} | ({"skipped": bad.reasons()} if len(bad) else {}),
        class_counts=_sum_counts(written, len(source.classes)),
        # Shuffled samples differ between shards by chance alone.
        homogeneity=None if settings.shuffle_seed is not None else _compare(written),
    ).save(path)
    journal.remove()
    return BuiltData(manifest, False)


def _sum_counts(shards: Sequence[WrittenShard], num_classes: int) -> list[int] | None:
    counts = [0] * num_classes
    for shard in shards:
        for label, count in shard.class_counts.items():
            counts[int(label)] += count
    return counts


def _compare(shards: Sequence[WrittenShard]) -> Homogeneity | None:
    every = -(-len(shards) // MAX_COMPARED_SHARDS)
    counts = [{int(label): count for label, count in shard.first_labels.items()} for shard in shards[::every]]
    return compare_label_counts(counts)


def _same_or_refuse(path: Path, wanted: dict[str, Any], source: Source) -> Manifest:
    manifest = load_manifest(path)
    found = {key: manifest.origin.get(key) for key in wanted}
    if found != wanted or manifest.classes != tuple(source.classes) or manifest.label_type != source.label_type:
        raise UserError(
            f"{path.parent} holds a finished data set from another source or with other settings; name another folder, "
            "or remove that one"
        )
    return manifest


def _list(source: Source, journal: "_Journal") -> tuple[str, str, int]:
    """Digests of what the source lists and of what it listed before bad samples were taken out, and the number of the
    latter."""
    now, before = hashlib.sha256(), hashlib.sha256()
    num_samples = 0
    for line in _reference_lines(source, journal):
        before.update(line + b"\n")
        if line not in journal.removed:
            now.update(line + b"\n")
        num_samples += 1
    return now.hexdigest(), before.hexdigest(), num_samples


def _reference_lines(source: Source, journal: "_Journal") -> Iterator[bytes]:
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


def _positions(source: Source, journal: "_Journal", bad: "_BadSamples") -> dict[int, bytes]:
    """Where in the listing the bad samples are, with those of earlier attempts that have been taken out."""
    wanted = bad.lines() | journal.removed
    return {place: line for place, line in enumerate(_reference_lines(source, journal)) if line in wanted}


def _write_all(
    source: Source,
    out: Path,
    settings: BuildSettings,
    lines: Iterator[bytes],
    journal: "_Journal",
    threads: int,
    bad: "_BadSamples",
    decode: bool,
) -> Iterator[WrittenShard | None]:
    """Shards in order, a few of them being written at once; None for one with more bad samples than allowed."""

    def pieces() -> Iterator[Callable[[], WrittenShard | None]]:
        for number in itertools.count():
            part = list(itertools.islice(lines, settings.shard_samples))
            if not part:
                return
            path, first = out / f"shard-{number:06d}.tar", number * settings.shard_samples
            yield partial(_write_shard, source, path, part, first, settings.max_side, journal, bad, decode)

    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, pieces(), ahead=threads)


def _write_shard(
    source: Source,
    path: Path,
    lines: list[bytes],
    first: int,
    max_side: int | None,
    journal: "_Journal",
    bad: "_BadSamples",
    decode: bool,
) -> WrittenShard | None:
    known = journal.find(path)
    if known is not None:
        return known
    temporary = path.with_suffix(".tmp")
    class_counts: Counter[str] = Counter()
    first_labels: Counter[str] = Counter()
    skipped: list[str] = []
    with temporary.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, line in enumerate(lines, start=first):
                try:
                    if line in journal.removed:
                        raise BadSampleError(f"{sample_name(line)} has been taken out of the source")
                    extension, encoded, labels = _prepare(source, line, max_side, decode)
                except BadSampleError as error:
                    skipped.append(line.decode())
                    if line not in journal.removed:
                        bad.add(line, str(error))
                    continue
                class_counts.update(map(str, set(labels)))
                first_labels[str(labels[0] if labels else NO_LABEL)] += 1
                _add(tar, f"{number:010d}.{extension}", encoded)
                if source.label_type == "single":
                    _add(tar, f"{number:010d}.cls", b"%d" % labels[0])
                else:
                    _add(tar, f"{number:010d}.json", json.dumps({"labels": labels}).encode())
        stream.flush()
        os.fsync(stream.fileno())
    if bad.is_beyond_allowance and not set(skipped) <= {line.decode() for line in journal.removed}:
        temporary.unlink()
        return None
    num_bytes = temporary.stat().st_size
    shard = WrittenShard(
        path.name,
        len(lines) - len(skipped),
        num_bytes,
        file_sha256(temporary),
        dict(class_counts),
        dict(first_labels),
        skipped,
    )
    temporary.replace(path)
    sync_folder(path.parent)
    journal.add(shard)
    return shard


def _prepare(source: Source, line: bytes, max_side: int | None, decode: bool) -> tuple[str, bytes, list[int]]:
    """Extension, encoded image and class numbers of a sample; BadSampleError when it cannot be packed."""
    encoded, labels = source.read(json.loads(line))
    if max_side is not None:
        encoded = shrink(encoded, max_side, line)
    extension = image_extension(encoded, line)
    if decode and max_side is None:
        try:
            decode_rgb(encoded)
        except DecodeError as error:
            raise BadSampleError(f"{sample_name(line)} cannot be decoded ({error})") from error
    if source.label_type == "single" and len(labels) != 1:
        raise BadSampleError(f"{sample_name(line)} has {len(labels)} labels, but the data set is single-label")
    return extension, encoded, labels


class _BadSamples:
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


def sample_name(line: bytes) -> str:
    """A reference as a person knows it: a path, or the numbers of shard and sample."""
    reference = json.loads(line)
    return reference[0] if isinstance(reference, list) and isinstance(reference[0], str) else line.decode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def image_extension(encoded: bytes, reference: bytes) -> str:
    """`jpg`, `png` or `webp`, by the image's first bytes; its name may lie."""
    if encoded[:3] == JPEG_MAGIC:
        return "jpg"
    if encoded[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "webp"
    raise BadSampleError(f"{sample_name(reference)} is neither JPEG nor PNG nor WebP")


def shrink(encoded: bytes, max_side: int, reference: bytes) -> bytes:
    """The image with its longest side at most `max_side`; unchanged bytes when it is that small already."""
    try:
        pixels = decode_rgb(encoded)
    except DecodeError as error:
        raise BadSampleError(f"{sample_name(reference)} cannot be decoded ({error})") from error
    scale = max_side / max(pixels.shape[:2])
    if scale >= 1:
        return encoded
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


class _Journal:
    """Shards that are complete, and samples that could not be packed, one JSON line each after a header that says
    what is being built."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shards: dict[str, WrittenShard] = {}
        self.bad: dict[int, bytes] = {}
        """Bad samples of earlier attempts by their place in the listing."""
        self.removed: set[bytes] = set()
        """Those of them that the source does not list any more."""
        # What follows the last line feed is a row that a crash cut off.
        self._rows = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        try:
            for row in map(json.loads, self._rows[1:]):
                if "bad" in row:
                    self.bad[int(row["position"])] = str(row["bad"]).encode()
                else:
                    shard = WrittenShard(**row)
                    self._shards[shard.name] = shard
            self._header = json.loads(self._rows[0]) if self._rows else None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is broken ({error}); remove {path.parent} and build again") from error

    def open(self, header: dict[str, Any]) -> None:
        """Begin, or go on with the same build; another one is refused."""
        if self._rows and self._header != header:
            raise UserError(
                f"{self._path.parent} holds an unfinished build from another source or with other settings; finish "
                "that one or build into an empty folder"
            )
        self._rewrite(header, self._rows[1:])

    def find(self, path: Path) -> WrittenShard | None:
        """The shard that is complete already; one without samples that are still listed is written again."""
        shard = self._shards.get(path.name)
        if shard is None or not {line.encode() for line in shard.skipped} <= self.removed:
            return None
        return shard if path.exists() and path.stat().st_size == shard.num_bytes else None

    def add(self, shard: WrittenShard) -> None:
        self._append(asdict(shard))

    def add_bad(self, bad: dict[int, bytes]) -> None:
        """Remember samples that could not be packed by their places in the listing."""
        kept = [row for row in self._path.read_text(encoding="utf-8").split("\n")[1:-1] if "bad" not in json.loads(row)]
        rows = [json.dumps({"position": position, "bad": line.decode()}) for position, line in sorted(bad.items())]
        self._rewrite(json.loads(self._path.read_text(encoding="utf-8").split("\n", 1)[0]), kept + rows)

    def remove(self) -> None:
        self._path.unlink()

    def _append(self, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _rewrite(self, header: dict[str, Any], rows: Sequence[str]) -> None:
        write_text_atomic(self._path, "".join(f"{row}\n" for row in [json.dumps(header), *rows]))
