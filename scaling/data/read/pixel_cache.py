"""Bounded memory of decoded images: of one process, or of all processes of a node that read the same data.

Images are kept as they were decoded, before any crop or augmentation, and never given up: what comes first stays.

A shared memory is an anonymous file of whoever made it, which others open through /proc, so no death leaves anything.
It is only ever appended to. Room is claimed under a lock of the file, which the kernel takes from a process that
dies; pixels are written next, and last the 8 bytes that say where they lie, so that no half of an image is ever seen. A
process that dies between the two has wasted some room.
"""

import fcntl
import logging
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from scaling.data.format.manifest import Manifest
from scaling.data.read.images.decode import Pixels

logger = logging.getLogger(__name__)

Place = tuple[int, int]
"""Shard number and index in the shard."""


class DecodedSample(NamedTuple):
    pixels: Pixels
    labels: list[int]
    """Class numbers; empty when a multi-label image has none."""


class PixelCache(Protocol):
    """Threads may share one."""

    def recall(self, place: Place) -> DecodedSample | None: ...

    def has_room(self, num_bytes: int) -> bool:
        """Whether an image of so many bytes may still be kept. Room only ever shrinks."""

    def remember(self, place: Place, sample: DecodedSample) -> None:
        """Keep it, if there is room."""


class OwnPixels:
    """Of this process alone."""

    def __init__(self, max_bytes: int) -> None:
        self._samples: dict[Place, DecodedSample] = {}
        self._free_bytes = max_bytes
        self._lock = threading.Lock()

    def recall(self, place: Place) -> DecodedSample | None:
        return self._samples.get(place)

    def has_room(self, num_bytes: int) -> bool:
        return num_bytes <= self._free_bytes

    def remember(self, place: Place, sample: DecodedSample) -> None:
        if not self.has_room(sample.pixels.nbytes):
            return
        with self._lock:
            if self.has_room(sample.pixels.nbytes) and place not in self._samples:
                self._free_bytes -= sample.pixels.nbytes
                self._samples[place] = sample


@dataclass(frozen=True, slots=True)
class Address:
    """Where the file of a shared memory is open: a process of this node and its descriptor."""

    process: int
    descriptor: int
    token: bytes
    """What the file begins with: another process, or another file, may have come by these numbers."""
    max_bytes: int


TOKEN_BYTES, USED_AT, HEAD_BYTES = 16, 64, 4096
"""The file's first page holds its token and how many bytes of images are claimed; then comes an entry of 8 bytes for
each sample of the data set, then the images."""

ALIGNMENT = 64
"""Bytes; an entry is the place of an image in these units, counted from 1."""


class SharedPixels:
    """Of the processes that hold the same file open. Each process has one for a data set; its threads may share it."""

    def __init__(self, manifest: Manifest, descriptor: int, token: bytes, max_bytes: int) -> None:
        """`descriptor`, which becomes this object's, is of an open file that no other process has: locks are its."""
        self._descriptor = descriptor
        self.address = Address(os.getpid(), descriptor, token, max_bytes)
        counts = manifest.shard_samples
        self._starts: list[int] = (np.cumsum(counts) - counts).tolist()
        index_bytes = -(-8 * manifest.num_samples // mmap.PAGESIZE) * mmap.PAGESIZE
        self._arena_at = HEAD_BYTES + index_bytes
        total = self._arena_at + max_bytes
        if os.fstat(descriptor).st_size < total:
            os.ftruncate(descriptor, total)  # Without pages: what is not used takes no memory.
        self._memory = mmap.mmap(descriptor, total)
        self._head = np.frombuffer(self._memory, np.int64, 1, USED_AT)
        self._entries = np.frombuffer(self._memory, np.int64, manifest.num_samples, HEAD_BYTES)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    @classmethod
    def make(cls, manifest: Manifest, max_bytes: int) -> "SharedPixels":
        """A new and empty one."""
        token, descriptor = os.urandom(TOKEN_BYTES), os.memfd_create("scaling-pixels")
        os.write(descriptor, token)
        return cls(manifest, descriptor, token, max_bytes)

    @classmethod
    def open(cls, manifest: Manifest, address: Address) -> "SharedPixels | None":
        """The one that another process of this node holds; None where it cannot be had."""
        try:
            descriptor = os.open(f"/proc/{address.process}/fd/{address.descriptor}", os.O_RDWR)
        except OSError as error:
            logger.warning("decoded images are not shared with process %d (%s)", address.process, error.strerror)
            return None
        if os.pread(descriptor, TOKEN_BYTES, 0) != address.token:
            logger.warning("decoded images are not shared: process %d is another one here", address.process)
            os.close(descriptor)
            return None
        return cls(manifest, descriptor, address.token, address.max_bytes)

    def recall(self, place: Place) -> DecodedSample | None:
        entry = int(self._entries[self._starts[place[0]] + place[1]])
        if not entry:
            return None
        at = self._arena_at + (entry - 1) * ALIGNMENT
        height, width, num_labels = np.frombuffer(self._memory, np.int64, 3, at).tolist()
        labels = np.frombuffer(self._memory, np.int64, num_labels, at + 24).tolist()
        pixels = np.frombuffer(self._memory, np.uint8, height * width * 3, at + _head_bytes(num_labels))
        return DecodedSample(pixels.reshape(height, width, 3), labels)

    def has_room(self, num_bytes: int) -> bool:
        return int(self._head[0]) + num_bytes + ALIGNMENT <= self._max_bytes

    @property
    def used_bytes(self) -> int:
        """Of images, in all processes."""
        return int(self._head[0])

    def remember(self, place: Place, sample: DecodedSample) -> None:
        number = self._starts[place[0]] + place[1]
        pixels, labels = sample.pixels, np.array(sample.labels, dtype=np.int64)
        head_bytes = _head_bytes(len(labels))
        num_bytes = -(-(head_bytes + pixels.nbytes) // ALIGNMENT) * ALIGNMENT
        with self._locked():
            offset = int(self._head[0])
            if offset + num_bytes > self._max_bytes or self._entries[number]:
                return
            try:
                # Now, because a page that cannot be had later would kill the process that touches it.
                os.posix_fallocate(self._descriptor, self._arena_at + offset, num_bytes)
            except OSError:
                self._head[0] = self._max_bytes
                return
            self._head[0] = offset + num_bytes
        at = self._arena_at + offset
        self._memory[at : at + 24] = np.array([*pixels.shape[:2], len(labels)], dtype=np.int64).tobytes()
        self._memory[at + 24 : at + 24 + labels.nbytes] = labels.tobytes()
        np.frombuffer(self._memory, np.uint8, pixels.nbytes, at + head_bytes).reshape(pixels.shape)[:] = pixels
        with self._locked():  # A lock taken is also a barrier: whoever sees the entry sees the pixels.
            self._entries[number] = offset // ALIGNMENT + 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def __del__(self) -> None:
        os.close(self._descriptor)


def _head_bytes(num_labels: int) -> int:
    """Before an image's pixels: height, width, number of labels, labels."""
    return -(-(24 + 8 * num_labels) // ALIGNMENT) * ALIGNMENT
