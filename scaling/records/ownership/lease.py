"""The right to write a run's folder: a lease that needs no lock manager and holds on shared file systems.

The lease is a file that names its holder. It is made by `link`, which overwrites nothing, and renewed by its time
stamp. A lease that has not been renewed for a whole `ttl`, by the watcher's own clock, is taken over by `rename`, which
only one of several takers wins; clocks of different machines are never compared. `flock` on the same file is a help on
one machine: when the kernel says that the holder is gone, nobody has to wait.

A lease does not stop a holder that was paused inside a write. So a holder asks `check` before each write, leaves
without writing once it cannot be sure (`LeaseLostError`), and what it writes bears its attempt's unique number.
"""

import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from scaling.errors import UserError
from scaling.records.files import open_regular
from scaling.records.run_dir import RunDir

TTL_SECONDS = 60.0
"""NFS clients may show a time stamp that is up to a minute old (acregmax), so no shorter on shared folders."""


class LeaseLostError(RuntimeError):
    """This process may not write the run any more; it leaves without writing."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a lease file names."""

    name: str
    """Unique to one acquisition."""
    host: str = ""
    pid: int = 0
    kernel: str = ""
    """Identifies the running kernel, within which `flock` tells; empty when it is unknown."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease file as it was seen; it has been renewed, or has changed hands, when two sightings differ."""

    holder: Holder
    inode: int
    mtime_ns: int


class Lease:
    """One process's claim to one run directory."""

    def __init__(self, run_dir: Path, ttl_seconds: float = TTL_SECONDS) -> None:
        self._path = RunDir(run_dir).lease
        self._ttl = ttl_seconds
        self._holder = Holder(f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex}", *_this_process())
        self._stream: IO[str] | None = None
        self._renewed = 0.0
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self, *, beats: bool = True) -> bool:
        """True when the lease is ours; False when a living process holds it, which can take one `ttl` to find out.

        With `beats` a thread renews it until `release`.
        """
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder, where the run's lease belongs; remove it")
        mine = self._path.with_name(f".{self._path.name}.{self._holder.name}.tmp")
        stream = mine.open("w+")
        try:
            stream.write(json.dumps({name: getattr(self._holder, name) for name in Holder.__slots__}))
            stream.flush()
            os.fsync(stream.fileno())
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._link(mine) and not (self._bury_the_dead() and self._link(mine)):
                stream.close()
                return False
            os.utime(stream.fileno())  # Making sure that the one before is dead may have taken a ttl.
        finally:
            mine.unlink(missing_ok=True)
        self._stream, self._renewed = stream, _now()
        if beats:
            self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
            self._heart.start()
        return True

    def renew(self) -> bool:
        """Tell the others that the holder lives; False when the lease is lost."""
        try:
            self.check()
            os.utime(self._path)
            self._refuse_loss()
        except (LeaseLostError, OSError):
            return False
        self._renewed = _now()
        return True

    def check(self) -> None:
        """Call before each write: LeaseLostError, whose sentence says how, when the run may no longer be ours."""
        self._refuse_loss()
        silent = _now() - self._renewed
        if silent > self._ttl / 2:
            raise LeaseLostError(
                f"this process was paused for {silent:.0f} s and its right to write {self._path.parent} has run out; "
                "start the run again"
            )

    def release(self) -> None:
        """Give the run up, when it is still ours."""
        self._closed.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
        if self._stream is None:
            return
        with contextlib.suppress(LeaseLostError, OSError):
            self.check()
            self._path.unlink()
        self._stream.close()
        self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _refuse_loss(self) -> None:
        assert self._stream is not None, "no lease was acquired"
        now = look(self._path.parent)
        if now is not None and now.holder.name == self._holder.name:
            return
        if not self._path.parent.is_dir():
            what = f"the folder {self._path.parent} was deleted under the running run"
        elif now is None:
            what = f"{self._path} was deleted under the running run"
        else:
            what = f"the process {now.holder.pid} on {now.holder.host} has taken over {self._path.parent}"
        raise LeaseLostError(f"{what}; this process stops without writing more")

    def _link(self, mine: Path) -> bool:
        """Try to make the lease ours. On NFS the answer of `link` may be lost: only the link count is the truth."""
        with contextlib.suppress(OSError):
            self._path.hardlink_to(mine)
        if mine.stat().st_nlink == 2:
            return True
        if not self._path.exists() and not self._path.is_symlink():
            # Released in between, or a file system without hard links: the second try tells.
            try:
                self._path.hardlink_to(mine)
            except FileExistsError:
                return False
            except OSError as error:
                raise UserError(
                    f"{self._path} cannot be made ({error.strerror}): runs need a file system with hard links"
                ) from error
            return mine.stat().st_nlink == 2
        return False

    def _bury_the_dead(self) -> bool:
        """Move a dead holder's lease out of the way; whether the way is free now."""
        first = look(self._path.parent)
        if first is None:
            # A link to nowhere is nobody's lease and in the way of ours.
            return not self._path.is_symlink() or self._bury(Path.is_symlink)
        is_here = bool(first.holder.kernel) and first.holder.kernel == self._holder.kernel
        deadline = _now() + self._ttl
        while _now() < deadline:
            with _locked_when_gone(self._path, first) as is_gone:
                # While this lock is held no other process of this machine takes the same lease.
                if is_gone:
                    return self._bury(lambda grave: True)
            if is_here and time.time() - first.mtime_ns / 1e9 < self._ttl / 2:
                return False  # The kernel says that the holder exists, and it beat a moment ago.
            time.sleep(min(self._ttl / 20, 1.0))
            now = look(self._path.parent)
            if now != first:
                return now is None

        def is_the_dead_one(grave: Path) -> bool:
            moved = _sight(grave)
            return moved is not None and moved.holder == first.holder

        return self._bury(is_the_dead_one)

    def _bury(self, is_right: Callable[[Path], bool]) -> bool:
        """Move what lies in the lease's place away, and back when it is not what was meant: a newer lease."""
        grave = self._path.with_name(f".{self._path.name}.dead.{self._holder.name}.tmp")
        try:
            self._path.rename(grave)
        except FileNotFoundError:
            return False  # Another taker won.
        try:
            if is_right(grave):
                return True
            with contextlib.suppress(FileExistsError):
                self._path.hardlink_to(grave)
            return False
        finally:
            grave.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._closed.wait(self._ttl / 4):
            if not self.renew():
                return


def look(run_dir: Path) -> Sighting | None:
    """The lease as it is now; None when there is none."""
    return _sight(RunDir(run_dir).lease)


def _sight(path: Path) -> Sighting | None:
    """Opened before it is asked for its time: NFS then asks anew."""
    try:
        with open_regular(path) as stream:
            holder = _parse_holder(stream.read(4096))
            status = os.fstat(stream.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return _unreadable(path, error)
    return Sighting(holder, status.st_ino, status.st_mtime_ns)


def _unreadable(path: Path, error: OSError) -> Sighting | None:
    """Something in the place of a lease, a folder say: believed for a ttl like any damaged one; None for a dangling
    link."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Sighting(Holder(f"unreadable ({(error.strerror or str(error)).lower()})"), status.st_ino, status.st_mtime_ns)


@contextlib.contextmanager
def _locked_when_gone(path: Path, sighting: Sighting) -> Iterator[bool]:
    """Whether this machine's kernel says that the holder of a lease is dead, and the dead one's file locked meanwhile;
    False where it cannot tell."""
    is_gone = False
    with contextlib.ExitStack() as stack:
        if sighting.holder.kernel and sighting.holder.kernel == _this_process()[2]:
            with contextlib.suppress(OSError):
                stream = stack.enter_context(path.open("r+"))
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_gone = path.stat().st_ino == os.fstat(stream.fileno()).st_ino == sighting.inode
        yield is_gone


def holder_is_gone(run_dir: Path, sighting: Sighting) -> bool:
    """Whether this machine's kernel says that the holder of a lease is dead; False where it cannot tell."""
    with _locked_when_gone(RunDir(run_dir).lease, sighting) as is_gone:
        return is_gone


class LifeWatch:
    """Which runs are alive, for a process that asks again and again: by its own clock, whatever the others' show."""

    def __init__(self, ttl_seconds: float = TTL_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl, self._clock = ttl_seconds, clock
        self._seen: dict[Path, tuple[Sighting, float]] = {}

    def is_alive(self, run_dir: Path) -> bool:
        """Whether a process holds the run. One that this machine cannot ask is believed for a `ttl` after each beat; at
        first sight its beat is judged by its age, so that an old one is not waited for."""
        now = look(run_dir)
        if now is None or holder_is_gone(run_dir, now):
            self._seen.pop(run_dir, None)
            return False
        before = self._seen.get(run_dir)
        if before is None or before[0] != now:
            age = max(0.0, time.time() - now.mtime_ns / 1e9) if before is None else 0.0
            self._seen[run_dir] = (now, self._clock() - age)
        return self._clock() - self._seen[run_dir][1] <= self._ttl


def _parse_holder(content: bytes) -> Holder:
    try:
        row = json.loads(content)
        return Holder(str(row["name"]), str(row["host"]), int(row["pid"]), str(row["kernel"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        # Damaged: nobody's name, so its holder notices, and others take it over after a ttl.
        return Holder(f"unreadable {content[:40]!r}")


def _this_process() -> tuple[str, int, str]:
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        kernel = ""
    return os.uname().nodename, os.getpid(), kernel


def _now() -> float:
    """Seconds by a clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
