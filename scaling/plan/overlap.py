"""Whether images of a test set are among those that are learned from, as far as planning can tell without decoding any.

Whole data sets and shards are compared by their checksums. Samples of local data sets of moderate size are compared by
key and bytes (`scaling.data.format.copies`). Of what is too large or lies elsewhere, a few-shot probe compares the
images that it uses before it is computed, and for fine-tuning planning says that nothing was compared.
"""

import logging

from scaling.data.format.copies import WAY_OUT, copies_problem, find_copies
from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.storage.remote import is_url

logger = logging.getLogger(__name__)

MAX_SAMPLES = 100_000
"""Of both data sets together; the keys of so many are read in about two seconds, and more would hold up planning."""


def overlap_problem(learned: Manifest, test: Manifest, learned_name: str, test_name: str) -> str | None:
    """Why `test` overlaps `learned`, as a sentence; None when it does not or that cannot be told here."""
    if learned.is_declared or test.is_declared:
        return None
    if learned.digest == test.digest:
        return f"{test_name} is the data set {learned_name} itself, so images learned from would be scored; {WAY_OUT}"
    shared = set(learned.shard_sha256) & set(test.shard_sha256)
    if shared:
        return f"{test_name} shares {len(shared)} of its {len(test.urls)} shards with {learned_name}; {WAY_OUT}"
    if not is_comparable(learned, test):
        return None
    copies = find_copies((test, OpenShards(test, verify=False)), (learned, OpenShards(learned, verify=False)))
    return copies_problem(copies, test.num_samples, learned_name, test_name)


def is_comparable(*manifests: Manifest) -> bool:
    """Whether planning compares the images of these data sets with each other."""
    if any(one.is_declared for one in manifests):
        return False
    is_local = all(not is_url(one.shard_location(shard)) for one in manifests for shard in range(len(one.urls)))
    return is_local and sum(one.num_samples for one in manifests) <= MAX_SAMPLES


def warn_of_uncompared(learned: Manifest, test: Manifest, learned_name: str, test_name: str) -> None:
    """Say that two data sets were compared by their shards only; nothing of those known by count alone."""
    if learned.is_declared or test.is_declared or is_comparable(learned, test):
        return
    logger.warning(
        "%s and %s are remote or above %s images, so only their shards were compared; python -m scaling.data dedup "
        "tells whether images are in both",
        learned_name,
        test_name,
        f"{MAX_SAMPLES:,}",
    )
