"""Shards made ready before their samples are asked for: remote ones fetched, local ones compared with the manifest.

Reading a whole shard is mostly waiting, so it is done by threads of its own, many at once, while others decode.
A failure here is logged only: whoever needs the shard tries again and raises the error.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from scaling.data.format.open_shards import OpenShards
from scaling.errors import UserError

logger = logging.getLogger(__name__)

NUM_FETCHES = 16
"""Shards made ready at once, when they are remote."""

NUM_CHECKS = 2
"""Local shards read at once; more would take the disk from those that are trained on."""


class FetchAhead:
    """Makes the shards ready that it is asked for. Use as a context manager."""

    def __init__(self, shards: OpenShards, wanted: Iterable[int]) -> None:
        """`wanted` are all shards that can be asked for."""
        self._shards = shards
        self._pool = ThreadPoolExecutor(NUM_FETCHES if shards.has_remote else NUM_CHECKS, thread_name_prefix="fetch")
        self._asked: set[int] = set()
        self._left = set(wanted)

    @property
    def is_needed(self) -> bool:
        """Whether some shard may not be ready. A copy of a remote one may be removed at any time."""
        return self._shards.has_remote or bool(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # Fetches that have begun end by themselves; waiting for them could take minutes.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, shard_ids: Iterable[int]) -> None:
        """Begin with those that are not ready and not begun."""
        for shard_id in shard_ids:
            if shard_id in self._asked:
                continue
            if self._shards.is_pending(shard_id):
                self._asked.add(shard_id)
                self._pool.submit(self._prepare, shard_id)
            else:
                self._left.discard(shard_id)

    def _prepare(self, shard_id: int) -> None:
        try:
            self._shards.prepare(shard_id)
        except UserError as error:
            logger.warning("a shard could not be made ready ahead of time: %s", error)
        finally:
            self._asked.discard(shard_id)
