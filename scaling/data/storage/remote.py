"""Bytes of objects behind `s3://`, `gs://`, `http(s)://` and `hf://`, read through fsspec as often as it takes.

A read is a sequence of byte ranges. One that breaks, stalls or comes short is asked for again at the byte where it
ended, in smaller pieces and after a pause that doubles (with jitter), up to a bound. What will not change (no such
object, no access, an object of another size than the manifest says) is an error at once. Credentials are left to the
libraries: environment, configuration files.
"""

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from scaling.data.storage.integrity import describe_content
from scaling.errors import UserError

logger = logging.getLogger(__name__)

EXTRAS = {"s3": "s3", "gs": "gcs", "http": "http", "https": "http", "hf": "hub"}
"""Protocols that are read, and the extra of this package that brings their library."""

STEP_BYTES = 8 * 1024 * 1024
"""Asked for at once."""

MIN_STEP_BYTES = 64 * 1024

MAX_FAILURES = 6
"""In a row, before a read is given up."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 20.0

STALL_SECONDS = 60.0
"""For one step or question; a connection that needs longer is given up and opened again."""

MAX_TEXT_BYTES = 1024**3
"""Of a manifest: ten times that of 300,000 shards."""

TRANSIENT_STATUS = (408, 425, 429)
"""Answers of HTTP's 4xx that may be others a moment later."""

FINAL_ERRORS = ("NoCredentialsError", "TypeError")
"""No credentials found, and options that a library chokes on only when it is used."""

Answer = TypeVar("Answer")


class RemoteReadError(UserError):
    """A remote object cannot be read; the text names url, reason, number of tries and a way out."""


class RemoteTroubleError(RemoteReadError):
    """The store, or the way to it, stayed away through all tries: later, or from another machine, it may answer."""


def is_url(location: str) -> bool:
    """Whether a location is a url rather than a path; UserError when it is one that is never read."""
    if location.startswith("pipe:"):
        raise UserError(f"{location}: commands are never run; write the data to files and name those")
    protocol, separator, _ = location.partition("://")
    if separator and protocol not in EXTRAS:
        known = ", ".join(f"{name}://" for name in EXTRAS)
        raise UserError(f"{location}: {protocol}:// is not read; use a path or one of {known}")
    return bool(separator)


class RemoteFiles:
    """Objects by url; `options` are those of each protocol's fsspec file system. Threads may share one."""

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        self._options = options
        self._systems: dict[str, Any] = {}

    def size(self, url: str) -> int:
        """Bytes of an object."""
        size = self._persist(url, lambda system, path: system.info(path).get("size"))
        if type(size) is not int or size < 0:
            raise RemoteReadError(f"{url}: the server does not tell its size; copy the file and name the copy")
        return size

    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        """Urls that a url with wildcards names, or the files of a folder that end in one of `suffixes`; sorted."""
        protocol = pattern.partition("://")[0]
        if pattern.endswith(suffixes) and not set(pattern) & set("*?["):
            return [pattern]

        def search(system: Any, path: str) -> list[str]:
            if set(pattern) & set("*?["):
                return list(system.glob(path))
            return [name for name in system.ls(path, detail=False) if name.endswith(suffixes)]

        found = self._persist(pattern, search)
        return sorted(name if "://" in name else f"{protocol}://{name}" for name in found)

    def read_text(self, url: str) -> str:
        """A whole small object as UTF-8."""
        size = self.size(url)
        if size > MAX_TEXT_BYTES:
            raise RemoteReadError(f"{url} has {size:,} bytes; that is no manifest")
        return b"".join(self.stream(url, size)).decode("utf-8")

    def stream(self, url: str, num_bytes: int) -> Iterator[bytes]:
        """The first `num_bytes` bytes of an object, in order, in pieces."""
        system, path = self._open(url)
        position, step, num_failures = 0, STEP_BYTES, 0
        while position < num_bytes:
            stop = min(position + step, num_bytes)
            try:
                # A server that does not know ranges answers the first one with the whole object.
                data = _read_range(system, path, position, stop, limit=stop - position if position else num_bytes)
                is_whole = position == 0 and len(data) == num_bytes
                if len(data) > stop - position and not is_whole:
                    raise RemoteReadError(
                        f"{url}: the server ignores byte ranges or the object is not the one that was indexed; serve "
                        "it from a server with ranges, or copy it and index it again"
                    )
                if data:
                    yield data
                    position += len(data)
                if position < stop:
                    self._refuse_other_size(url, num_bytes, position)
                    raise EOFError(f"{len(data):,} bytes came instead of {stop - position + len(data):,}")
            except RemoteReadError:
                raise
            except Exception as error:  # Every library has its own types for a network's troubles.
                num_failures += 1
                _pause_or_give_up(url, f"reading at byte {position:,}", num_failures, error)
                step = max(MIN_STEP_BYTES, step // 4)
            else:
                num_failures = 0

    def _refuse_other_size(self, url: str, num_bytes: int, position: int) -> None:
        """RemoteReadError when an object that ended too early is another one than was asked for."""
        system, path = self._open(url)
        try:
            size = _bounded(lambda: system.info(path).get("size"))
        except Exception:  # Then the read is tried again, like after any other trouble.
            return
        if type(size) is int and position >= size and size != num_bytes:
            raise RemoteReadError(
                f"{url} has {size:,} bytes now, but {num_bytes:,} when it was indexed"
                f"{self._first_bytes(system, path)}; put the indexed file back, or index it again"
            )

    def _first_bytes(self, system: Any, path: str) -> str:
        """What an object seems to be, where it is no archive."""
        try:
            return describe_content(_read_range(system, path, 0, 64, limit=STEP_BYTES)[:64])
        except Exception:  # The size alone says enough.
            return ""

    def _persist(self, url: str, action: Callable[[Any, str], Answer]) -> Answer:
        system, path = self._open(url)
        num_failures = 0
        while True:
            try:
                return _bounded(lambda: action(system, path))
            except Exception as error:  # As above.
                num_failures += 1
                _pause_or_give_up(url, "asking for it", num_failures, error)

    def _open(self, url: str) -> tuple[Any, str]:
        import fsspec

        protocol = url.partition("://")[0]
        if protocol not in self._systems:
            try:
                options = dict(self._options.get(protocol, {}))
                self._systems[protocol] = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
            except ImportError as error:
                raise UserError(
                    f"{url}: {error}; install the extra that reads it: pip install 'scaling-study[{EXTRAS[protocol]}]'"
                ) from error
            except (TypeError, ValueError) as error:
                raise UserError(f"{url}: the storage options {options} are not taken ({error})") from error
        system = self._systems[protocol]
        return system, system._strip_protocol(url)


def _read_range(system: Any, path: str, start: int, stop: int, limit: int) -> bytes:
    """One request; an asynchronous file system's is cancelled when it stalls, another one is left behind. Of an HTTP
    server that sends more than `limit` bytes, one more than those."""
    if not system.async_impl:
        return bytes(_bounded(lambda: system.cat_file(path, start=start, end=stop)))
    from fsspec.asyn import sync

    is_http = "http" in system.protocol
    request = (
        _http_range(system, path, start, stop, limit) if is_http else system._cat_file(path, start=start, end=stop)
    )

    async def bounded() -> bytes:
        return bytes(await asyncio.wait_for(request, STALL_SECONDS))

    data: bytes = sync(system.loop, bounded)
    return data


async def _http_range(system: Any, url: str, start: int, stop: int, limit: int) -> bytes:
    """As fsspec's `_cat_file`, which would take in whatever a server sends that ignores the range, or unpacks to."""
    options = {"headers": {}, **system.kwargs}
    options["headers"] = {**options["headers"], "Range": f"bytes={start}-{stop - 1}"}
    session = await system.set_session()
    data = bytearray()
    async with session.get(system.encode_url(url), **options) as response:
        system._raise_not_found_for_status(response, url)
        async for piece in response.content.iter_any():
            data += piece
            if len(data) > limit:
                response.close()
                return bytes(data[: limit + 1])
    return bytes(data)


def _bounded(action: Callable[[], Answer]) -> Answer:
    """What an action returns or raises; TimeoutError when it takes longer than STALL_SECONDS.

    It runs in a thread of its own, because a library that waits for a server cannot be interrupted.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((True, action()))
        except BaseException as error:  # Raised where the result is waited for.
            results.put((False, error))

    threading.Thread(target=run, name="remote", daemon=True).start()
    try:
        is_answer, value = results.get(timeout=STALL_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {STALL_SECONDS:g} s") from None
    if is_answer:
        answer: Answer = value
        return answer
    raise value


def _pause_or_give_up(url: str, deed: str, num_failures: int, error: Exception) -> None:
    if isinstance(error, FileNotFoundError) and isinstance(cause := error.__cause__, Exception) and _is_trouble(cause):
        error = cause  # fsspec's HTTP calls every file absent whose server gave no answer about it.
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, FileNotFoundError):
        raise RemoteReadError(f"{url}: there is no such object; is the manifest's folder right?") from error
    if isinstance(error, PermissionError) or _is_final(error):
        raise RemoteReadError(
            f"{url}: {deed} was refused at the first try ({reason}); check credentials and storage options"
        ) from error
    if num_failures >= MAX_FAILURES:
        raise RemoteTroubleError(
            f"{url}: {deed} failed {num_failures} times in a row, at last with {reason}; check that it can be reached "
            "from this machine and start again"
        ) from error
    pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (num_failures - 1)) * random.uniform(0.5, 1.0)
    logger.warning("%s: %s failed (%s), try %d in %.1f s", url, deed, reason, num_failures + 1, pause)
    time.sleep(pause)


def _is_trouble(error: Exception) -> bool:
    """Whether an error says that a server could not answer, rather than what its answer was."""
    if isinstance(getattr(error, "status", None), int):
        return not _is_final(error)
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)


def _is_final(error: Exception) -> bool:
    if type(error).__name__ in FINAL_ERRORS:
        return True
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in TRANSIENT_STATUS
