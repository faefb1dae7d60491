"""The one exception that means "the user's input is wrong".

Its text is a single sentence that names the field, the value, the rule and a way out. Command lines
print it to stderr without a traceback and exit with code 2; anything else is a defect of ours and
keeps its traceback.
"""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    # A file in the place of a folder, a pipe or a socket in that of a file.
    *(errno.EEXIST, errno.EINVAL, errno.ENXIO),
)
"""A file or folder that the system does not give us: for the user to mend, and no defect."""


_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line breaks, marks that turn the direction of the text, and what UTF-8 cannot hold."""


def printable(text: str) -> str:
    """A text on one line that does nothing to a terminal: control characters are written as `\\x1b`."""
    return _UNPRINTED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def unprintable(text: str) -> str:
    """The first character of a text that `printable` does not leave as it is, written as `\\x1b`; empty for none."""
    found = _UNPRINTED.search(text)
    return printable(found[0]) if found else ""


class UserError(ValueError):
    """Bad input, described in one sentence; what it quotes does nothing to a terminal."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class LostDecoderError(ConnectionError):
    """A process that decodes images for this one ended before it was closed: no input is wrong. One sentence."""


def shown(value: object, limit: int = 80) -> str:
    """A value as an error can quote it: on one line and at most `limit` characters long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}… ({len(text):,} characters)"


def broken_rule(problem: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says of a value, as the middle of a sentence."""
    if problem["type"] == "too_short":
        return "at least one value is needed" if problem["ctx"]["min_length"] == 1 else "more values are needed"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def did_you_mean(name: str, known: Iterable[str], limit: int = 12) -> str:
    """A hint for an unknown `name`: the nearest known one, or the list when it is short enough to read."""
    names = list(known)
    if not names:
        return "none is known"
    close = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(names) <= limit:
        return "known: " + ", ".join(names)
    return f"known: {', '.join(names[:limit])}, … ({len(names)} in all)"


def run_command(body: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line's `body(argv)`; returns its exit code, 2 for a `UserError` and for a file that the system
    refuses, 130 for Ctrl-C, and 141 when the reader of a pipe left, as `| head` does."""
    try:
        code = body(argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is still buffered has no reader; without this the interpreter would report it as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except RuntimeError as error:
        # What `Path.resolve` raises before Python 3.13 where later ones leave it to whoever opens the file.
        _, is_loop, link = str(error).partition("Symlink loop from ")
        if not is_loop:
            raise
        print(f"error: {printable(link)}: {os.strerror(errno.ELOOP).lower()}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        # Of a rename the second: the first is a temporary file of ours.
        place = printable(str(error.filename2 or error.filename or "writing"))
        if error.errno == errno.ENOTDIR:
            place = os.path.dirname(place) or place  # noqa: PTH120
        told = _IN_PLACE.get(error.errno or 0) or f": {(error.strerror or str(error)).lower()}"
        print(f"error: {place}{told}", file=sys.stderr)
        return 2


_IN_PLACE = {
    errno.EEXIST: " cannot be made a folder: a file is in its place; name another",
    errno.ENOTDIR: ": a part of this path is a file, where a folder is needed; name another",
    errno.EISDIR: " is a folder, but a file is needed there; name a file",
}
"""What stands in the place of what is read or written, and the way out."""
