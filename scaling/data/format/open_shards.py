"""The shards in use: indexed on demand, forgotten when others need their place."""

import threading
from collections import OrderedDict

from scaling.data.format.ignore import Ignore
from scaling.data.format.manifest import Manifest
from scaling.data.format.shard import Shard
from scaling.data.storage.integrity import CorruptShardError
from scaling.data.storage.remote import is_url
from scaling.data.storage.shard_files import ShardFiles
from scaling.errors import UserError
from scaling.records.run_plan import AccessPlan

MAX_INDEXED_SAMPLES = 1_000_000
"""Of all indexed shards together, about 150 bytes each; twice what the windows of the training order span."""


class OpenShards:
    """Indexed shards of a data set by number, least recently used first out. Threads may share one."""

    def __init__(self, manifest: Manifest, max_samples: int = MAX_INDEXED_SAMPLES, *, verify: bool = True) -> None:
        """`verify` off compares local shards with the manifest by size only, whatever its access says."""
        if manifest.is_declared:
            raise UserError(
                f"data set {manifest.name!r} is declared by count only; make its shards and a manifest to read them"
            )
        self._manifest = manifest
        access = manifest.access if verify else manifest.access.model_copy(update={"verify": False})
        self._files = ShardFiles(access)
        self.has_remote = isinstance(manifest.folder, str) or any("://" in url for url in manifest.urls)
        self._prepared: set[int] = set()
        self._slots: OrderedDict[int, _Slot] = OrderedDict()
        self._free_samples = max_samples
        self._lock = threading.Lock()

    def shared_access(self) -> AccessPlan:
        """How other processes reach the shards, with the copies of remote ones that this process makes."""
        return self._files.shared_access() if self.has_remote else self._manifest.access

    def get(self, shard_id: int) -> Shard:
        """The shard, indexed by the first thread that asks while others of the same shard wait."""
        with self._lock:
            slot = self._slots.get(shard_id)
            if slot is None:
                slot = self._slots[shard_id] = _Slot()
                self._make_room(int(self._manifest.shard_samples[shard_id]))
            self._slots.move_to_end(shard_id)
        with slot.lock:
            if slot.shard is None:
                slot.shard = self._index(shard_id)
            return slot.shard

    def is_pending(self, shard_id: int) -> bool:
        """Whether a shard has to be brought here, or to be compared with the manifest, before it can be read."""
        location, _, sha256 = self._manifest.shard_row(shard_id)
        return not self._files.is_here(sha256) if is_url(location) else shard_id not in self._prepared

    def prepare(self, shard_id: int) -> None:
        """Bring a remote shard here; compare a local one with the manifest."""
        location, num_bytes, sha256 = self._manifest.shard_row(shard_id)
        if is_url(location):
            self._files.fetch(location, num_bytes, sha256)
        else:
            self._files.check(location, num_bytes, sha256)
            self._prepared.add(shard_id)

    def _make_room(self, num_samples: int) -> None:
        self._free_samples -= num_samples
        while self._free_samples < 0 and len(self._slots) > 1:
            shard_id, _ = self._slots.popitem(last=False)
            self._free_samples += int(self._manifest.shard_samples[shard_id])

    def _index(self, shard_id: int) -> Shard:
        location, num_bytes, sha256 = self._manifest.shard_row(shard_id)
        tar = self._files.open_known(location, num_bytes, sha256)
        shard = Shard(location, tar, self._manifest.label_rule, Ignore(self._manifest.ignore))
        expected = int(self._manifest.shard_samples[shard_id])
        if len(shard) != expected:
            raise CorruptShardError(
                f"shard {shard.location} holds {len(shard)} samples, but the manifest says {expected}; "
                "index the shards again"
            )
        self._prepared.add(shard_id)
        return shard


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shard: Shard | None = None
