"""Decode processes: `decode_worker MEMORY SOCKET,SOCKET... ...`, all of them descriptors.

Each further word is a process, forked when all is imported; a thread for each of its sockets answers one task after
another. The processes end when standard input does, which whoever started them holds open for as long as it lives.
"""

import gc
import mmap
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from scaling.data.read.processes.decode_processes import Answer, Task
from scaling.data.read.rows import Rows
from scaling.data.storage.integrity import CorruptSampleError

MAX_MAPPED = 64
"""Regions of a job's batches that stay mapped."""


class _Job:
    """What tasks have in common: how their rows are made, and the mapped batches."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.mapped: dict[tuple[int, int], mmap.mmap] = {}


class _Jobs:
    """The jobs that are known here. Threads share it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._jobs: dict[int, _Job] = {}
        self._lock = threading.Lock()

    def of(self, task: Task) -> tuple[Rows, mmap.mmap]:
        """How a task's rows are made, and the memory of its batch."""
        with self._lock:
            self._jobs = {number: job for number, job in self._jobs.items() if number in task.live_jobs}
            job = self._jobs.get(task.job)
            if job is None:
                job = self._jobs[task.job] = _Job(pickle.loads(self._map(task.rows)))
            if len(job.mapped) > MAX_MAPPED:
                job.mapped.clear()
            if task.batch not in job.mapped:
                job.mapped[task.batch] = self._map(task.batch)
            return job.rows, job.mapped[task.batch]

    def _map(self, region: tuple[int, int]) -> mmap.mmap:
        offset, num_bytes = region
        return mmap.mmap(self._descriptor, num_bytes, offset=offset)


def _answer(task: Task, jobs: _Jobs) -> Answer:
    told: list[tuple[int, int, str]] = []

    def tell(shard: int, index: int, error: CorruptSampleError) -> None:
        told.append((shard, index, str(error)))

    try:
        rows, memory = jobs.of(task)
        row_bytes, num_rows = 3 * rows.size * rows.size, len(task.places)
        pixels = torch.frombuffer(
            memory, dtype=torch.uint8, offset=task.first_row * row_bytes, count=num_rows * row_bytes
        )
        images = pixels.view(num_rows, rows.size, rows.size, 3).permute(0, 3, 1, 2)
        return Answer(rows.fill(images, task.places, tell), tuple(told))
    except Exception as error:
        return Answer([], tuple(told), _portable(error))


def _portable(error: BaseException) -> tuple[BaseException, ...]:
    """An error and what it was raised from, as they can be sent; the place where it was raised becomes a note."""
    error.add_note("in a decode process:\n" + "".join(traceback.format_exception(error)))
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        try:
            chain.append(pickle.loads(pickle.dumps(link)))
        except Exception:
            chain.append(RuntimeError(f"{type(link).__name__}: {link}"))
        link = link.__cause__
    return tuple(chain)


def _serve(connection: Connection, jobs: _Jobs) -> None:
    with torch.inference_mode():
        while True:
            try:
                task: Task = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(_answer(task, jobs))


def main(arguments: Sequence[str]) -> int:
    """The exit code of the first decode process that did not end as it should, or 0."""
    memory = int(arguments[0])
    groups = [[int(word) for word in group.split(",")] for group in arguments[1:]]
    gc.freeze()  # The collector would copy every page that the processes share.
    for group in groups:
        if os.fork() == 0:
            # A socket is closed, as its asker sees it, when nobody else has it open.
            for other in groups:
                if other is not group:
                    _close(other)
            _decode(memory, group)
            return 0
        _close(group)
    for _ in groups:
        _, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            os.kill(os.getpid(), -code)
        if code:
            return code
    return 0


def _decode(memory: int, sockets: Sequence[int]) -> None:
    torch.set_num_threads(1)
    jobs = _Jobs(memory)
    for descriptor in sockets:
        threading.Thread(target=_serve, args=(Connection(descriptor), jobs), daemon=True).start()
    sys.stdin.buffer.read()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
