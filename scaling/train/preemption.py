"""When a run is asked to leave: SIGTERM, SIGUSR1 (Slurm's warning), or a launcher that disappeared.

A signal handler only raises a flag; the training loop looks at it at a step edge, where all ranks agree, save
together and leave. Saving inside a handler would meet half-updated weights and ranks at different steps.
"""

import os
import signal
import threading
import time
from types import FrameType

PARENT_POLL_SECONDS = 1.0


class PreemptionFlag:
    """Up once this process was asked to leave."""

    def __init__(self, *, watch_parent: bool) -> None:
        self.reason = ""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_signal)
        if watch_parent:
            threading.Thread(target=self._watch_parent, args=(os.getppid(),), daemon=True).start()

    @property
    def is_up(self) -> bool:
        return bool(self.reason)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.reason = f"received {signal.Signals(number).name}"

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        self.reason = "the launcher is gone"
