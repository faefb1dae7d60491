"""What shards are built from: a source lists and reads samples.

A source lists *references*, small JSON values that name one sample each, in an order that is always the same; and it
reads the sample of a reference. The builder shuffles references, never images. Whatever a folder or table holds is
either listed or accounted for in `left_out`.
"""

import errno
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.class_names import ClassNames
from scaling.data.format.ignore import Ignore
from scaling.data.format.index import LabelForm
from scaling.data.format.manifest import LabelType
from scaling.errors import UserError

BAD_FILE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that are about one file; others, such as too many open files, are about the machine."""

MAX_EXAMPLES = 3


class BadSampleError(UserError):
    """One sample of a source cannot be packed, while the others can."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source from the command line."""

    image_column: str | None = None
    label_column: str | None = None
    """Of an `hf:` source."""
    label_type: LabelForm | None = None
    classes: ClassNames | None = None
    ignore: Ignore = field(default_factory=Ignore)
    """Paths to leave out."""


NO_OPTIONS = SourceOptions()


@dataclass
class LeftOut:
    """Files of one kind that are not packed."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(name)


class Source(Protocol):
    """Samples to build shards from. Threads may read from one."""

    classes: Sequence[str]
    label_type: LabelType
    class_counts: NDArray[np.int64] | None
    """Samples of each class; None when they are counted only while packing."""
    num_unlabelled: int
    num_repeated: int
    """Rows that name the image of an earlier one."""
    left_out: dict[str, LeftOut]
    """What is not packed, by the reason."""

    def references(self) -> Iterator[Any]:
        """A JSON value per sample, always in the same order."""
        ...

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        """Encoded image and class numbers of a sample; BadSampleError when they cannot be had."""
        ...


def read_file(path: Path) -> bytes:
    """The bytes of one sample's file; BadSampleError when it cannot be had, UserError when the machine is at fault."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadSampleError(f"{path} is no file")
        return path.read_bytes()
    except OSError as error:
        kind = BadSampleError if error.errno in BAD_FILE else UserError
        raise kind(f"{path} cannot be read ({error.strerror}); repair the source and start again") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise BadSampleError(f"{str(path)!r} is no path ({error})") from error
