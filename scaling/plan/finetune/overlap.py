"""Whether images of a test set are among those trained on, as far as planning can tell without decoding any.

Whole data sets and shards are compared by their checksums. Samples of local data sets of moderate size are compared by
their keys, and where a key is in both by the bytes of the image: many data sets count their samples from 0, so an equal
key alone says nothing. Near-copies are for `python -m scaling.data dedup`.
"""

from collections.abc import Iterator

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.storage.remote import is_url

MAX_BYTES = 2**30
"""Of the shards of both data sets together; reading the keys of larger ones would hold up planning."""

WAY_OUT = "give a test set of other images (python -m scaling.data dedup finds copies, near-copies too)"


def overlap_problem(train: Manifest, test: Manifest, train_name: str, test_name: str) -> str | None:
    """Why `test` overlaps `train`, as a sentence; None when it does not or that cannot be told."""
    if train.is_declared or test.is_declared:
        return None
    if train.digest == test.digest:
        return f"{test_name} is the data set {train_name} itself, so scores would be of images trained on; {WAY_OUT}"
    shared = set(train.shard_sha256) & set(test.shard_sha256)
    if shared:
        return f"{test_name} shares {len(shared)} of its {len(test.urls)} shards with {train_name}; {WAY_OUT}"
    if not _is_small_and_local(train, test):
        return None
    copies = _copies(train, test)
    if not copies:
        return None
    return (
        f"{len(copies)} of the {test.num_samples:,} images of {test_name} are in {train_name} too, under the same key "
        f"such as {copies[0]!r}; {WAY_OUT}"
    )


def _is_small_and_local(*manifests: Manifest) -> bool:
    is_local = all(not is_url(one.shard_location(shard)) for one in manifests for shard in range(len(one.urls)))
    return is_local and sum(int(one.shard_bytes.sum()) for one in manifests) <= MAX_BYTES


def _copies(train: Manifest, test: Manifest) -> list[str]:
    """Keys of test samples whose image is, byte for byte, that of the training sample of the same key."""
    train_shards, test_shards = OpenShards(train, verify=False), OpenShards(test, verify=False)
    places: dict[str, list[tuple[int, int]]] = {}
    for key, shard, index in _keys(train, train_shards):
        places.setdefault(key, []).append((shard, index))
    found = []
    for key, shard, index in _keys(test, test_shards):
        for other_shard, other in places.get(key, ()):
            if test_shards.get(shard).read_image(index) == train_shards.get(other_shard).read_image(other):
                found.append(key)
                break
    return found


def _keys(manifest: Manifest, shards: OpenShards) -> Iterator[tuple[str, int, int]]:
    """Key, shard and index of every sample."""
    for number in range(len(manifest.urls)):
        shard = shards.get(number)
        for index in range(len(shard)):
            yield shard.key(index), number, index
