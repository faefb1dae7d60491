"""When a run is asked to leave: SIGTERM, SIGUSR1 (Slurm's warning), or a launcher that disappeared.

A signal handler only raises a flag; the training loop looks at it at a step edge, where all ranks agree, save
together and leave. Saving inside a handler would meet half-updated weights and ranks at different steps.
"""

import multiprocessing
import signal
import threading
from types import FrameType

from scaling.records.attempts.contract import LEAVE_SIGNALS


class PreemptionFlag:
    """Up once this process was asked to leave.

    With `watch_parent` it also goes up when the process that started this one through `multiprocessing` is gone. The
    system's parent would not tell: it is the fork server, which lives on as long as any of its children.
    """

    def __init__(self, *, watch_parent: bool) -> None:
        self.reason = ""
        for number in LEAVE_SIGNALS:
            signal.signal(number, self._on_signal)
        # Whoever started this process may have held them back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE_SIGNALS)
        if watch_parent:
            threading.Thread(target=self._watch_parent, daemon=True).start()

    @property
    def is_up(self) -> bool:
        return bool(self.reason)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.reason = f"received {signal.Signals(number).name}"

    def _watch_parent(self) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None, "nobody started this process through multiprocessing"
        parent.join()
        self.reason = "the launcher is gone"
