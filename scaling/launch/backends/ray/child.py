"""`python -m scaling.launch.backends.ray.child PARENT ARGUMENTS...`: become training that outlives no Ray worker.

Ray owns the signals and streams of its workers, so training is a process of its own. When its worker disappears,
however that happens, the kernel asks it to save and leave; it is asked for before `exec`, which keeps it.
"""

import ctypes
import os
import signal
import sys

from scaling.records.attempts.contract import LEAVE_SIGNALS, PREEMPTED

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def main() -> int:
    """Replaces this process; returns an exit code only when the worker is gone already."""
    parent, *arguments = sys.argv[1:]
    # A signal that comes before training listens waits until then; training takes the block away.
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return PREEMPTED
    return os.execv(sys.executable, [sys.executable, "-m", "scaling.train", *arguments])


if __name__ == "__main__":
    sys.exit(main())
