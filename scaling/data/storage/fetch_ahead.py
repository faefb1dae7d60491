"""Remote shards brought here before their samples are asked for.

Reading a remote shard is mostly waiting, so it is done by threads of its own, many at once, while others decode.
A fetch that fails here is not an error: whoever needs the shard asks again and is told.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from scaling.data.storage.open_shards import OpenShards
from scaling.errors import UserError

logger = logging.getLogger(__name__)

NUM_FETCHES = 16
"""Shards on their way at once."""


class FetchAhead:
    """Fetches the shards it is told of; nothing happens for local ones. Use as a context manager."""

    def __init__(self, shards: OpenShards) -> None:
        self._shards = shards
        self._pool = ThreadPoolExecutor(NUM_FETCHES, thread_name_prefix="fetch")
        self._asked: set[int] = set()

    @property
    def is_needed(self) -> bool:
        """Whether any shard is remote."""
        return self._shards.has_remote

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # Fetches under way end by themselves; waiting for them could take minutes.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, shard_ids: Iterable[int]) -> None:
        """Begin to fetch those that are not here and not on their way."""
        for shard_id in shard_ids:
            if shard_id not in self._asked and self._shards.is_far(shard_id):
                self._asked.add(shard_id)
                self._pool.submit(self._fetch, shard_id)

    def _fetch(self, shard_id: int) -> None:
        try:
            self._shards.fetch(shard_id)
        except UserError as error:
            logger.warning("fetched ahead in vain: %s", error)
        finally:
            self._asked.discard(shard_id)
