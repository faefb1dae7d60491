"""The one exception that means "the user's input is wrong".

Its text is a single sentence that names the field, the value, the rule and a way out. Command lines
print it to stderr without a traceback and exit with code 2; anything else is a defect of ours and
keeps its traceback.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence

REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""A file or folder that the system would not give us: the user's to mend, and no defect."""


class UserError(ValueError):
    """Bad input, told in one sentence."""


def did_you_mean(name: str, known: Iterable[str], limit: int = 12) -> str:
    """A hint for an unknown `name`: the nearest known one, or the list when it is short enough to read."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(names) <= limit:
        return "known: " + ", ".join(names)
    return f"known: {', '.join(names[:limit])}, … ({len(names)} in all)"


def run_command(body: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line's `body(argv)` and turn its `UserError`, or the system's refusal of a file, into exit code
    2, Ctrl-C into 130, and a reader that left, such as `| head`, into 141."""
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
        # What is still buffered has nowhere to go; without this the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"error: {error.filename or 'writing'}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 2
