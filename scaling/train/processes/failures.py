"""Causes of an early end of training: what the run itself would meet again, and what a machine did."""

import errno
import os
from collections.abc import Iterator

from scaling.data.storage.remote import RemoteTroubleError
from scaling.errors import REFUSALS, LostDecoderError, UserError, printable
from scaling.records.attempts import contract
from scaling.records.attempts.causes import MORE_MEMORY, Cause
from scaling.records.events import LostFileError
from scaling.records.ownership.lease import LeaseLostError


class DivergenceError(RuntimeError):
    """Loss or gradient are no longer numbers."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written."""


class MachineError(RuntimeError):
    """This machine cannot start the run, or lost what it kept of it: a GPU that cannot be initialised, processes that
    do not meet, weights that changed on the disk."""


class LostPartnerError(RuntimeError):
    """Another process of the run died or stayed silent."""


CODES = {
    Cause.DONE: contract.DONE,
    Cause.FAILED: contract.FAILED,
    Cause.DIVERGED: contract.FAILED,
    Cause.BAD_INPUT: contract.BAD_INPUT,
    Cause.PREEMPTED: contract.PREEMPTED,
    Cause.CANCELLED: contract.PREEMPTED,
    Cause.PRUNED: contract.PREEMPTED,
    Cause.BUSY: contract.BUSY,
    Cause.LOST: contract.LOST_PARTNER,
    Cause.MACHINE_TROUBLE: contract.MACHINE_TROUBLE,
    Cause.OUT_OF_MEMORY: contract.OUT_OF_MEMORY,
}
"""How a process that ends for a cause leaves."""

_TROUBLE = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.EREMOTEIO,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ENOTCONN,
    }
)
"""Storage or network of this machine: the same run may do well on another, or later."""

_CUDA_TROUBLE = (
    "No CUDA GPUs are available",
    "CUDA driver",
    "CUDA unknown error",
    "uncorrectable ECC error",
    "device unavailable",
    "invalid device ordinal",
    "initialization error",
    "unspecified launch failure",
    "NVLink",
    "fell off the bus",
    "nvidia-smi has failed",
)
"""In CUDA's own words, as PyTorch passes them on."""

_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "Failed to CUDA calloc",
    "Cuda failure 'out of memory'",
    "can't allocate memory",
    "Cannot allocate memory",
    "can't start new thread",
    "std::bad_alloc",
    "failed to map segment",
)

_WAYS_OUT = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole machine has too many open files",
    errno.ENOSPC: "make room and start the run again (--retry-failed)",
    errno.EDQUOT: "make room and start the run again (--retry-failed)",
}


def classify(error: BaseException) -> Cause:
    """Why a process ends with this error."""
    if isinstance(error, LeaseLostError):
        return Cause.BUSY
    if isinstance(error, UserError):
        # A record or a shard that this machine's storage does not give is no bad input, whoever says so to the user.
        return Cause.MACHINE_TROUBLE if any(map(_is_away, _chain(error))) else Cause.BAD_INPUT
    if isinstance(error, LostPartnerError):
        return Cause.LOST
    if isinstance(error, DivergenceError):
        return Cause.DIVERGED
    if isinstance(error, MemoryError) or _errno(error) == errno.ENOMEM or _says(error, _MEMORY):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, MachineError | ConnectionError | TimeoutError) or _errno(error) in _TROUBLE:
        return Cause.MACHINE_TROUBLE
    if isinstance(error, RuntimeError) and _says(error, _CUDA_TROUBLE):
        return Cause.MACHINE_TROUBLE
    return Cause.FAILED


def describe(error: BaseException) -> str:
    """One printable line for the records; a message meant for the user stands for itself, and a refusal of the system
    names the way out."""
    if isinstance(
        error, UserError | MachineError | LostFileError | LostDecoderError | LostPartnerError | LeaseLostError
    ):
        return printable(str(error))
    told = f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(": ")
    way_out = MORE_MEMORY if classify(error) is Cause.OUT_OF_MEMORY else _WAYS_OUT.get(_errno(error) or 0)
    return printable(f"{told}; {way_out}" if way_out else told)


def is_foreseen(error: BaseException) -> bool:
    """Whether `describe` says all there is to say: the input, the machine or the disk, and no defect of the code."""
    if classify(error) in (Cause.BUSY, Cause.BAD_INPUT, Cause.LOST, Cause.DIVERGED):
        return True
    if isinstance(error, CheckpointError | LostFileError):
        return True
    if classify(error) in (Cause.MACHINE_TROUBLE, Cause.OUT_OF_MEMORY):
        return True
    return _errno(error) in {*REFUSALS, *_WAYS_OUT, errno.EFBIG}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _is_away(error: BaseException) -> bool:
    """Whether storage stayed away."""
    return isinstance(error, RemoteTroubleError) or _errno(error) in _TROUBLE


def _errno(error: BaseException) -> int | None:
    """The system's number for it; libraries in other languages raise errors of their own with the system's words."""
    if isinstance(error, OSError):
        return error.errno
    return next((number for number in _WAYS_OUT if os.strerror(number) in str(error)), None)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Libraries raise plain RuntimeErrors for these."""
    return isinstance(error, RuntimeError | OSError | ImportError) and any(word in str(error) for word in words)
