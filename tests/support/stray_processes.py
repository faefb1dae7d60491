"""What a failed test leaves running: launchers and runs would hold this machine's cores from every test after it."""

import contextlib
import os
import signal
from pathlib import Path


def kill_strays_of(test: str) -> None:
    """SIGKILL for every process that was started while pytest ran `test`, but the warm servers of this process."""
    mark = f"PYTEST_CURRENT_TEST={test} ".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            started_by_test = any(word.startswith(mark) for word in (process / "environ").read_bytes().split(b"\0"))
            # Field 4 of stat, counted behind the command's name, is the parent.
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            is_warm_server = parent == os.getpid() and b"forkserver" in (process / "cmdline").read_bytes()
            if started_by_test and not is_warm_server and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
