"""The rows of one loader's batches, made by decode processes, in buffers that are used again.

A buffer is free when the last tensor that looks into it is gone, so a batch may be kept for as long as anybody likes;
then another buffer is made.
"""

import itertools
import pickle
import weakref
from collections import deque
from dataclasses import replace

import torch

from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.read.processes.shared_memory import Region
from scaling.data.read.rows import Buffer, EvalRows, Places, TrainRows
from scaling.data.read.stand_in import Tell
from scaling.data.storage.integrity import CorruptSampleError


class RemoteRows:
    """Rows made elsewhere; threads may share one. What the processes keep of it goes with this object."""

    def __init__(self, rows: TrainRows | EvalRows, processes: DecodeProcesses) -> None:
        self._processes, self._size = processes, rows.size
        self._source = rows.source  # The processes find the shared memory of images through this process.
        body = pickle.dumps(replace(rows, source=rows.source.part(processes.num_processes)))
        region = processes.memory.region(len(body))
        region.memory[: len(body)] = body
        self._body = (region.offset, region.num_bytes)
        self._ring = _Ring()
        self._job = processes.begin_job()
        weakref.finalize(self, _end, processes, self._job, region, self._ring).atexit = False

    def buffer(self, num_rows: int) -> Buffer:
        num_bytes = num_rows * 3 * self._size * self._size
        region = self._ring.take(num_bytes) or self._processes.memory.region(num_bytes)
        view = memoryview(region.memory)  # Lives as long as the tensor's memory does.
        weakref.finalize(view, self._ring.give, region).atexit = False
        pixels = torch.frombuffer(view, dtype=torch.uint8, count=num_bytes)
        return Buffer(pixels.view(num_rows, self._size, self._size, 3).permute(0, 3, 1, 2), region)

    def fill(self, buffer: Buffer, first_row: int, places: Places, tell: Tell) -> list[list[int]]:
        """Make the rows from `first_row` on; class numbers and errors are those of `Rows.fill`."""
        assert buffer.region is not None
        where = (buffer.region.offset, buffer.region.num_bytes)
        answer = self._processes.ask(self._job, self._body, where, first_row, places)
        for shard, index, problem in answer.told:
            tell(shard, index, CorruptSampleError(problem))
        for error, origin in itertools.pairwise(answer.errors):
            error.__cause__ = origin
        if answer.errors:
            raise answer.errors[0]
        return answer.labels

    def rest(self) -> None:
        """Give back the memory of buffers that are free."""
        self._ring.drop_free()


class _Ring:
    """Buffers that were used and are free."""

    def __init__(self) -> None:
        self._free: deque[Region] = deque()
        self._is_closed = False

    def take(self, num_bytes: int) -> Region | None:
        while self._free:
            try:
                region = self._free.pop()
            except IndexError:
                break
            if region.num_bytes >= num_bytes:
                return region
            region.drop()
        return None

    def give(self, region: Region) -> None:
        """May be called in the middle of anything, so it takes no lock."""
        self._free.append(region)
        if self._is_closed:
            self.drop_free()

    def drop_free(self) -> None:
        while self._free:
            try:
                self._free.pop().drop()
            except IndexError:
                break

    def close(self) -> None:
        self._is_closed = True
        self.drop_free()


def _end(processes: DecodeProcesses, job: int, body: Region, ring: _Ring) -> None:
    processes.end_job(job)
    body.drop()
    ring.close()
