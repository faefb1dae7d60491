"""Memory that a process shares with its decode processes: one anonymous file that grows, in regions of whole pages.

No file system holds it (`memfd_create`), so that no limit of /dev/shm applies and nothing is left by any death: the
kernel takes it back with the last process that has it open.
"""

import mmap
import os
import threading


class SharedMemory:
    """The regions of one file. Threads may share one."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("scaling-batches")
        """To be passed on to other processes, which map regions of it."""
        self._end = 0
        self._lock = threading.Lock()

    def region(self, num_bytes: int) -> "Region":
        """New memory, all zeros, at least so large."""
        num_bytes = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            offset, self._end = self._end, self._end + num_bytes
        try:
            # Now, because a page that cannot be had later would kill the process that touches it.
            os.posix_fallocate(self.descriptor, offset, num_bytes)
        except OSError as error:
            raise MemoryError(
                f"{num_bytes:,} bytes of memory to share with decode processes cannot be had ({error.strerror})"
            ) from error
        return Region(self.descriptor, offset, num_bytes)

    def close(self) -> None:
        """Regions that are mapped stay until they are not."""
        os.close(self.descriptor)


class Region:
    """Part of a file of shared memory, mapped into this process."""

    def __init__(self, descriptor: int, offset: int, num_bytes: int) -> None:
        self.offset, self.num_bytes = offset, num_bytes
        self.memory = mmap.mmap(descriptor, num_bytes, offset=offset)

    def drop(self) -> None:
        """Give the memory back to the machine, whoever maps it; what was in it is gone."""
        self.memory.madvise(mmap.MADV_REMOVE)
