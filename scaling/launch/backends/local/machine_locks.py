"""Cores and GPUs of a machine, each taken by one run at a time, whoever's launcher started it.

Every core and GPU is one byte of a lock file in the machine's temporary directory. The locks are the kernel's and
belong to an open file (`F_OFD_SETLK`, see fcntl(2)) that the launcher passes on to the processes of the run, so they
are held until the last of them is gone, also when the launcher is killed, and never longer.
"""

import errno
import fcntl
import logging
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "scaling-study-devices.lock"


class DeviceLocks:
    """What launchers have taken of this machine."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(tempfile.gettempdir()) / FILE
        self._has_warned = False

    def take(self, cores: Iterable[int], gpus: Iterable[str]) -> int | None:
        """An open file descriptor that holds all of these cores (numbers) and GPUs (UUIDs), or None when one is taken.

        Closing all copies of the descriptor gives them back.
        """
        try:
            descriptor = self._open()
        except OSError as error:
            self._warn(error)
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for place in (*cores, *(_GPU_PLACES + zlib.crc32(gpu.encode()) for gpu in gpus)):
                _lock_byte(descriptor, place)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                os.close(descriptor)
                return None
            self._warn(error)
        return descriptor

    def _open(self) -> int:
        """The lock file, which belongs to every user of the machine. An existing one is opened without O_CREAT, which
        Linux refuses for other users' files in a shared folder (fs.protected_regular)."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags)
        except FileNotFoundError:
            try:
                descriptor = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(descriptor, 0o666)
            except FileExistsError:
                descriptor = os.open(self._path, flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "no regular file")
        return descriptor

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            logger.warning(
                "%s cannot be used (%s): another launcher on this machine may take the same cores or GPUs",
                self._path,
                error.strerror or error,
            )
            self._has_warned = True


_GPU_PLACES = 2**32
"""Above the numbers of all cores."""


def _lock_byte(descriptor: int, place: int) -> None:
    """Lock one byte for the open file, or raise EAGAIN or EACCES when another open file has it."""
    # struct flock: l_type, l_whence, l_start, l_len, l_pid, padded to its alignment.
    request = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
