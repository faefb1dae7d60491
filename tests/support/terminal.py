"""A command on a terminal of its own: what a person types and reads."""

import os
import pty
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CTRL_C = "\x03"


class Terminal:
    """A command whose three streams are one terminal, which it owns."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.text = ""
        """Everything it has printed."""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], list(command), {**environment, "TERM": "xterm", "COLUMNS": "160"})

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Until `text` has been printed since the last wait."""
        start, deadline = len(self.text), time.monotonic() + seconds
        while text not in self.text[start:]:
            assert time.monotonic() < deadline, f"{text!r} was not printed: {self.text}"
            assert self._read(0.2) is not None, f"ended without {text!r}: {self.text}"

    def exit_code(self, seconds: float = 60) -> int:
        """When it has ended; what it printed until then is read."""
        deadline = time.monotonic() + seconds
        while self._read(0.2) is not None:
            assert time.monotonic() < deadline, self.text
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End it the hard way if it lives."""
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self._descriptor)

    def _read(self, seconds: float) -> bytes | None:
        """What it prints within so long, perhaps nothing; None when it has left the terminal."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return b""
        try:
            found = os.read(self._descriptor, 65536)
        except OSError:
            return None
        self.text += found.decode(errors="replace")
        return found or None


@contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Terminal]:
    opened = Terminal(command, environment, folder)
    try:
        yield opened
    finally:
        opened.close()
