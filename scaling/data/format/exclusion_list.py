"""Samples that training passes over: lists of them, and those that are held out to make a choice on.

A list is JSON in columns: shard numbers and indices inside shards, sorted, and the digest of their data set. It is
refused for any other data set, since the numbers would name other images. `python -m scaling.data dedup` writes one; a
study names it in `data.exclude`. Held-out samples are exact in count, drawn by a seed and disjoint from the rest;
training excludes them as any others, and validation reads them by their positions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.random_streams import RandomStream, generator
from scaling.data.storage.remote import MAX_TEXT_BYTES, RemoteFiles, is_url
from scaling.errors import UserError
from scaling.plain_json import read_json
from scaling.records.files import open_regular, write_text_atomic
from scaling.records.run_plan import content_digest

EXCLUSION_SCHEMA = 1


def make_exclusion(manifest: Manifest, samples: Sequence[tuple[int, int]]) -> Exclusion:
    """The list of these (shard number, index) of a data set; repetitions count once."""
    places = np.array(sorted(set(samples)), dtype=np.int64).reshape(-1, 2)
    shard_ids, indices = places[:, 0].copy(), places[:, 1].copy()
    if not len(indices):
        return NO_EXCLUSION
    if shard_ids[0] < 0 or shard_ids[-1] >= len(manifest.urls):
        raise UserError(f"an excluded sample is of shard {shard_ids[-1]}, but there are {len(manifest.urls)} shards")
    if indices.min() < 0 or np.any(indices >= manifest.shard_samples[shard_ids]):
        raise UserError("an excluded sample is beyond the end of its shard; the list was edited: make it again")
    if len(indices) == manifest.num_samples:
        raise UserError("all samples are excluded; nothing is left to train on")
    body = {"data": manifest.digest, "shard": shard_ids.tolist(), "index": indices.tolist()}
    return Exclusion(shard_ids, indices, content_digest(body))


def save_exclusion(exclusion: Exclusion, manifest: Manifest, path: Path, origin: Mapping[str, Any]) -> None:
    """Write a list; `origin` says how it came to be."""
    columns = {"shard": exclusion.shard_ids.tolist(), "index": exclusion.indices.tolist()}
    body = {"schema": EXCLUSION_SCHEMA, "data_digest": manifest.digest, "origin": dict(origin), "samples": columns}
    write_text_atomic(path, json.dumps(body) + "\n")


def load_exclusion(location: Path | str, manifest: Manifest) -> Exclusion:
    """Read and check a list at a path or url; UserError when it is not one of this data set."""
    remake = "make it again with 'python -m scaling.data dedup'"
    try:
        is_remote = isinstance(location, str) and is_url(location)
        if is_remote:
            body = read_json(RemoteFiles(manifest.access.storage).read_text(str(location)))
        else:
            with open_regular(Path(location)) as stream:
                body = read_json(stream.read(MAX_TEXT_BYTES))
        digest, samples = body["data_digest"], body["samples"]
        places = list(zip(samples["shard"], samples["index"], strict=True))
        if body["schema"] != EXCLUSION_SCHEMA or any(type(number) is not int for place in places for number in place):
            raise ValueError("it is of another schema")
    except OSError as error:
        raise UserError(f"exclusion list {location} cannot be read ({error.strerror}); {remake}") from error
    except UserError as error:
        raise UserError(f"exclusion list {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"exclusion list {location} is not one that this version reads ({error}); {remake}") from error
    if digest != manifest.digest:
        raise UserError(
            f"exclusion list {location} is of another data set (digest {str(digest)[:12]}, this one has "
            f"{manifest.digest[:12]}); {remake} for this one"
        )
    return make_exclusion(manifest, places)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out samples, named in two ways."""

    positions: NDArray[np.int64]
    """Canonical positions, increasing: what validation reads."""
    exclusion: Exclusion
    """The same samples as training passes them over; its digest names them."""


def hold_out(manifest: Manifest, num_samples: int, seed: int) -> HeldOut:
    """`num_samples` of a data set's samples, at least one and not all, each choice of so many equally likely."""
    assert 0 < num_samples < manifest.num_samples, num_samples
    order = generator(seed, RandomStream.HELD_OUT).permutation(manifest.num_samples)
    positions = np.sort(order[:num_samples]).astype(np.int64)
    ends = np.cumsum(manifest.shard_samples)
    shards = np.searchsorted(ends, positions, side="right")
    indices = positions - (ends - manifest.shard_samples)[shards]
    return HeldOut(positions, make_exclusion(manifest, list(zip(shards.tolist(), indices.tolist(), strict=True))))
