"""Shards from a source: every sample once, in globally random order or as listed, with a manifest.

The original encoded bytes are kept unless `max_side` asks for smaller images. A build can be stopped at any moment
and started again: finished shards are listed in a journal beside them and not written again, provided that source and
settings are still the same. Memory holds one shuffled part of the references and one image per thread.
"""

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scaling.data.format.checksum import file_sha256
from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.read.decode import JPEG_MAGIC, DecodeError, decode_rgb
from scaling.data.read.in_order import in_order
from scaling.data.tools.build_sources import Source
from scaling.data.tools.shuffle_lines import shuffled
from scaling.errors import UserError
from scaling.records.files import sync_folder

JOURNAL = "build.jsonl"

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


def build_shards(
    source: Source,
    out: Path,
    settings: BuildSettings,
    *,
    name: str,
    origin: dict[str, Any],
    threads: int = 1,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> Manifest:
    """Write `out/shard-*.tar` and `out/manifest.json`. `progress(done, all, done)`, samples, is called per shard."""
    out.mkdir(parents=True, exist_ok=True)
    listing = hashlib.sha256()
    num_samples = 0
    for line in _reference_lines(source):
        listing.update(line + b"\n")
        num_samples += 1
    if num_samples == 0:
        raise UserError("the source lists no images (jpg, jpeg, png or webp); is it the right folder or table?")
    header = {"settings": asdict(settings), "listing": listing.hexdigest(), "classes": list(source.classes)}
    journal = _Journal(out / JOURNAL, header)
    lines = _reference_lines(source)
    if settings.shuffle_seed is not None:
        lines = shuffled(lines, settings.shuffle_seed)
    written: list[WrittenShard] = []
    num_done = 0
    for shard in _write_all(source, out, settings, lines, journal, threads):
        written.append(shard)
        num_done += shard.num_samples
        progress(num_done, num_samples, num_done)
    manifest = build_manifest(
        name=name,
        label_type=source.label_type,
        classes=source.classes,
        folder=out.resolve(),
        urls=[shard.name for shard in written],
        num_samples=[shard.num_samples for shard in written],
        num_bytes=[shard.num_bytes for shard in written],
        sha256=[shard.sha256 for shard in written],
        origin=origin | asdict(settings),
    ).save(out / "manifest.json")
    journal.remove()
    return manifest


def _reference_lines(source: Source) -> Iterator[bytes]:
    return (json.dumps(reference).encode() for reference in source.references())


def _write_all(
    source: Source, out: Path, settings: BuildSettings, lines: Iterator[bytes], journal: "_Journal", threads: int
) -> Iterator[WrittenShard]:
    """Shards in order, a few of them being written at once."""

    def pieces() -> Iterator[Callable[[], WrittenShard]]:
        for number in itertools.count():
            part = list(itertools.islice(lines, settings.shard_samples))
            if not part:
                return
            path, first = out / f"shard-{number:06d}.tar", number * settings.shard_samples
            yield partial(_write_shard, source, path, part, first, settings.max_side, journal)

    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, pieces(), ahead=threads)


def _write_shard(
    source: Source, path: Path, lines: list[bytes], first: int, max_side: int | None, journal: "_Journal"
) -> WrittenShard:
    known = journal.find(path)
    if known is not None:
        return known
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, line in enumerate(lines, start=first):
                encoded, labels = source.read(json.loads(line))
                if max_side is not None:
                    encoded = shrink(encoded, max_side, line)
                _add(tar, f"{number:010d}.{image_extension(encoded, line)}", encoded)
                if source.label_type == "single":
                    _add(tar, f"{number:010d}.cls", b"%d" % labels[0])
                else:
                    _add(tar, f"{number:010d}.json", json.dumps({"labels": labels}).encode())
        stream.flush()
        os.fsync(stream.fileno())
    shard = WrittenShard(path.name, len(lines), temporary.stat().st_size, file_sha256(temporary))
    temporary.replace(path)
    sync_folder(path.parent)
    journal.add(shard)
    return shard


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
    raise UserError(f"{reference.decode()} is neither JPEG nor PNG nor WebP; convert it or take it out of the source")


def shrink(encoded: bytes, max_side: int, reference: bytes) -> bytes:
    """The image with its longest side at most `max_side`; unchanged bytes when it is that small already."""
    try:
        pixels = decode_rgb(encoded)
    except DecodeError as error:
        raise UserError(f"{reference.decode()} cannot be decoded ({error}); take it out of the source") from error
    scale = max_side / max(pixels.shape[:2])
    if scale >= 1:
        return encoded
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


class _Journal:
    """Shards that are complete, one JSON line each after a header that says what is being built."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._path = path
        self._shards: dict[str, WrittenShard] = {}
        # What follows the last line feed is a row that a crash cut off.
        rows = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        if rows and json.loads(rows[0]) != header:
            raise UserError(
                f"{path.parent} holds an unfinished build from another source or with other settings; finish that one "
                "or build into an empty folder"
            )
        path.write_text("".join(f"{row}\n" for row in rows or [json.dumps(header)]), encoding="utf-8")
        for row in rows[1:]:
            shard = WrittenShard(**json.loads(row))
            self._shards[shard.name] = shard

    def find(self, path: Path) -> WrittenShard | None:
        shard = self._shards.get(path.name)
        return shard if shard and path.exists() and path.stat().st_size == shard.num_bytes else None

    def add(self, shard: WrittenShard) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(shard)) + "\n")

    def remove(self) -> None:
        self._path.unlink()
