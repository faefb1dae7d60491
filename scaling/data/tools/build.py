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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scaling.data.format.homogeneity import MAX_COMPARED_SHARDS, Homogeneity, PieceCounts, compare_label_counts
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.read.images.decode import JPEG_MAGIC, DecodeError, decode_rgb
from scaling.data.read.look_ahead import in_order
from scaling.data.storage.integrity import file_sha256
from scaling.data.tools.build_journal import (
    BAD_LIST,
    JOURNAL,
    BadSamples,
    BuildJournal,
    WrittenShard,
    places_of_bad,
    reference_lines,
    sample_name,
)
from scaling.data.tools.shuffle_lines import shuffled
from scaling.data.tools.sources.source import BadSampleError, Source
from scaling.errors import UserError
from scaling.records.files import make_folder, sync_folder

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
    journal = BuildJournal(out / JOURNAL)
    listing, listing_before, num_samples = _list(source, journal)
    content = {"listing": listing_before, "classes": list(source.classes), "label_type": source.label_type}
    if path.exists():
        return BuiltData(_same_or_refuse(path, {**asdict(settings), "listing": listing}, source), True)
    journal.open({"settings": asdict(settings), **content})
    if num_samples == 0:
        raise UserError("the source lists no images (jpg, jpeg, png or webp); is it the right folder or table?")
    lines = reference_lines(source, journal)
    if settings.shuffle_seed is not None:
        lines = shuffled(lines, settings.shuffle_seed)
    bad = BadSamples(skip_bad)
    written: list[WrittenShard] = []
    num_done = 0
    for shard in _write_all(source, num_samples, out, settings, lines, journal, threads, bad, decode):
        if shard is None:
            continue
        num_done += shard.num_samples + len(shard.skipped)
        progress(num_done, num_samples, num_done)
        if shard.num_samples:
            written.append(shard)
    if len(bad) > skip_bad or not written:
        journal.add_bad(places_of_bad(source, journal, bad))
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
    pieces = [piece for shard in shards[::every] for piece in shard.label_pieces]
    return compare_label_counts([{int(label): count for label, count in piece.items()} for piece in pieces])


def _same_or_refuse(path: Path, wanted: dict[str, Any], source: Source) -> Manifest:
    manifest = load_manifest(path)
    found = {key: manifest.origin.get(key) for key in wanted}
    if found != wanted or manifest.classes != tuple(source.classes) or manifest.label_type != source.label_type:
        raise UserError(
            f"{path.parent} holds a finished data set from another source or with other settings; name another folder, "
            "or remove that one"
        )
    return manifest


def _list(source: Source, journal: BuildJournal) -> tuple[str, str, int]:
    """Digests of what the source lists and of what it listed before bad samples were taken out, and the number of the
    latter."""
    now, before = hashlib.sha256(), hashlib.sha256()
    num_samples = 0
    for line in reference_lines(source, journal):
        before.update(line + b"\n")
        if line not in journal.removed:
            now.update(line + b"\n")
        num_samples += 1
    return now.hexdigest(), before.hexdigest(), num_samples


def _write_all(
    source: Source,
    num_samples: int,
    out: Path,
    settings: BuildSettings,
    lines: Iterator[bytes],
    journal: BuildJournal,
    threads: int,
    bad: BadSamples,
    decode: bool,
) -> Iterator[WrittenShard | None]:
    """Shards in order, a few of them being written at once; None for one with more bad samples than allowed."""
    num_shards = -(-num_samples // settings.shard_samples)

    def pieces() -> Iterator[Callable[[], WrittenShard | None]]:
        for number in itertools.count():
            part = list(itertools.islice(lines, settings.shard_samples))
            if not part:
                return
            path, first = out / f"shard-{number:06d}.tar", number * settings.shard_samples
            yield partial(_write_shard, source, path, part, first, num_shards, settings.max_side, journal, bad, decode)

    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, pieces(), ahead=threads)


def _write_shard(
    source: Source,
    path: Path,
    lines: list[bytes],
    first: int,
    num_shards: int,
    max_side: int | None,
    journal: BuildJournal,
    bad: BadSamples,
    decode: bool,
) -> WrittenShard | None:
    known = journal.find(path)
    if known is not None:
        return known
    temporary = path.with_suffix(".tmp")
    class_counts: Counter[str] = Counter()
    pieces = PieceCounts(num_shards, len(lines))
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
                pieces.add(number - first, labels)
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
        [{str(label): count for label, count in piece.items()} for piece in pieces.pieces],
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


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def image_extension(encoded: bytes, reference: bytes) -> str:
    """`jpg`, `png` or `webp`, by the image's first bytes; the file name is not trusted."""
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
