"""The local back end: runs on this machine, as many at a time as it has room for.

What is submitted waits in this launcher's queue until cores or GPUs are free; `poll` starts runs, notices ended ones
and starts them again as the policy of `scaling.records` says. Cores and GPUs are taken by locks of the whole machine,
so that launchers share it. A launcher that leaves detached hands its queue to a keeper, a process that does the same
without a terminal (`scaling.launch.keeper`).
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.backends.base import AGAIN, Handle, Look, Resources, next_step
from scaling.launch.backends.local.machine_locks import DeviceLocks
from scaling.launch.backends.local.open_files import allow_open_files
from scaling.launch.backends.local.run import LocalRun, StartError, WarmServer
from scaling.launch.backends.local.slots import Slot, cut_slots, this_machine
from scaling.launch.keeper import start_keeper
from scaling.records.attempts.causes import Cause, Decision, decide
from scaling.records.attempts.contract import BUSY
from scaling.records.attempts.ends import End, read_ends, settle_end
from scaling.records.ownership.lease import LifeWatch, look
from scaling.records.ownership.stop_request import StopCause, clear_stop, request_stop, requested_stop
from scaling.records.run_dir import StudyDir
from scaling.spec.launch_spec import LaunchSpec, LocalSection

STOP_GRACE_SECONDS = 120.0
"""How long a run may take to finish its step and save before it is killed."""


MAX_FAILED_STARTS, FAILED_START_SECONDS = 5, 1.0
"""A warm server may be killed while it starts a run; the wait grows with each failure in a row."""


@dataclass
class _Waiting:
    run_dir: Path
    not_before: float = 0.0
    """`time.monotonic` from which on it may be started."""
    reason: str = ""
    failed_starts: int = 0
    """Times in a row that its processes could not be started."""


class LocalBackend:
    """Runs on this machine; implements `Backend`."""

    settings = LocalSection
    scheduler = ""
    poll_seconds = 0.2

    def __init__(self, launch: LaunchSpec, need: Resources) -> None:
        self._launch, self._need = launch, need
        self._cap: int | None = None
        self._slots: list[Slot] = []
        self._queue: list[_Waiting] = []
        self._running: dict[Path, LocalRun] = {}
        self._ended: dict[Path, Look] = {}
        self._adopted: set[Path] = set()
        self._troubled: dict[Path, set[str]] = {}
        """GPUs, by UUID, on which a run met trouble of its machine."""
        self._locks, self._server, self._life = DeviceLocks(), WarmServer(), LifeWatch()

    def check(self, need: Resources) -> None:
        if need.nodes > 1:
            raise UserError(
                f"launch.nodes: {need.nodes} nodes, but the back end 'local' is one machine; choose a cluster "
                "(launch.backend) or set launch.nodes to 1"
            )
        self._cut_slots(need, None)
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if need.memory_gb is not None and need.memory_gb > memory_gb:
            raise UserError(
                f"launch.memory: {need.memory_gb:g} GB, but this machine has {memory_gb:.0f} GB; lower it or choose a "
                "cluster (launch.backend)"
            )

    def submit(self, run_dirs: Sequence[Path], cap: int | None) -> list[Handle]:
        if not self._slots or cap != self._cap:
            self._cap, self._slots = cap, self._cut_slots(self._need, cap)
            allow_open_files(self._need.devices * min(len(self._slots), cap or len(self._slots)))
        known = {*self._running, *(waiting.run_dir for waiting in self._queue)}
        for run_dir in run_dirs:
            clear_stop(run_dir)
            self._ended.pop(run_dir, None)
            self._adopted.discard(run_dir)
            if run_dir not in known:
                self._queue.append(self._waiting(run_dir))
        return [Handle(run_dir, "local", "", index, None) for index, run_dir in enumerate(run_dirs)]

    def adopt(self, study_dir: Path) -> list[Handle]:
        """Runs that processes of this machine hold: those of a launcher that died finish their step, save and leave."""
        handles: list[Handle] = []
        for run in StudyDir(study_dir).run_dirs():
            holder = look(run.path)
            if holder and holder.holder.host == os.uname().nodename and self._life.is_alive(run.path):
                self._adopted.add(run.path)
                handles.append(Handle(run.path, "local", "", len(handles), str(holder.holder.pid)))
        return handles

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        for run_dir, run in list(self._running.items()):
            code = run.poll()
            if code is not None:
                del self._running[run_dir]
                self._end(run, code)
        self._start_waiting()
        looks = dict(self._ended)
        looks |= {one.run_dir: Look("queued", reason=one.reason) for one in self._queue}
        looks |= {run_dir: Look("running", where=f"process {run.pid}") for run_dir, run in self._running.items()}
        for run_dir in list(self._adopted):
            if self._life.is_alive(run_dir):
                looks[run_dir] = Look("running", where="started by another launcher")
            else:
                self._adopted.discard(run_dir)
                looks[run_dir] = Look("gone", reason="its launcher is gone")
        return looks

    def cancel(self, run_dirs: Sequence[Path], cause: StopCause = Cause.CANCELLED) -> None:
        for run_dir in run_dirs:
            request_stop(run_dir, cause)
        for run_dir in run_dirs:
            run = self._running.get(run_dir)
            if run is not None:
                run.ask_to_leave()
            elif any(waiting.run_dir == run_dir for waiting in self._queue):
                self._queue = [waiting for waiting in self._queue if waiting.run_dir != run_dir]
                self._ended[run_dir] = Look("ended", cause=cause)
            else:
                self._ask_holder(run_dir)

    def close(self, *, detach: bool) -> None:
        """Runs save a checkpoint, leave and are waited for; detached, a keeper continues with them and the queue."""
        wanted = [*self._running, *(waiting.run_dir for waiting in self._queue)]
        for run in self._running.values():
            run.ask_to_leave()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for run_dir, run in self._running.items():
            code = run.wait(deadline)
            if code != BUSY:
                settle_end(run_dir, code, begun_after=run.begun_after)
        self._running.clear()
        self._queue.clear()
        if detach and wanted:
            start_keeper(wanted, self._cap, self._launch)

    def _waiting(self, run_dir: Path) -> _Waiting:
        """A run in the queue; after trouble of this machine, for as long as that may take to pass."""
        ends = read_ends(run_dir).counted
        if not ends:
            return _Waiting(run_dir)
        decision = decide(ends, self._launch.retries)
        wait = _seconds_to_wait(ends[-1], decision)
        again = f"starts again in {wait:.0f} s" if wait else "starts again"
        return _Waiting(run_dir, time.monotonic() + wait, f"{decision.reason}, {again}")

    def _cut_slots(self, need: Resources, cap: int | None) -> list[Slot]:
        threads = self._launch.local.threads or need.cpus
        return cut_slots(this_machine(), devices_per_run=need.devices, max_parallel=cap, threads=threads)

    def _start_waiting(self) -> None:
        """Start what may start now, in order, where the machine has room."""
        now = time.monotonic()
        for waiting in list(self._queue):
            if self._cap is not None and len(self._running) >= self._cap:
                return
            if waiting.not_before > now:
                continue
            asked = requested_stop(waiting.run_dir)
            if asked:
                self._queue.remove(waiting)
                self._ended[waiting.run_dir] = Look("ended", cause=asked)
                continue
            taken = self._take_slot(waiting.run_dir)
            if taken is None:
                if self._troubled.get(waiting.run_dir):
                    continue  # It waits for a GPU that others may not want.
                if not self._running:
                    waiting.reason = "cores or GPUs of this machine are taken by another launcher"
                return
            slot, locks = taken
            try:
                execution = self._launch.execution(slot.threads)
                run = LocalRun(waiting.run_dir, slot, locks, execution, self._server)
            except StartError as error:
                self._note_failed_start(waiting, error)
                return
            self._queue.remove(waiting)
            self._running[waiting.run_dir] = run

    def _note_failed_start(self, waiting: _Waiting, error: StartError) -> None:
        """The next try has a new warm server; UserError when that goes on."""
        waiting.failed_starts += 1
        if waiting.failed_starts >= MAX_FAILED_STARTS:
            raise UserError(
                f"no process can be started on this machine ({error}); look at its limits of processes, memory and "
                "open files (ulimit -a)"
            ) from error
        waiting.not_before = time.monotonic() + waiting.failed_starts * FAILED_START_SECONDS
        waiting.reason = f"its processes could not be started ({error}), starts again"

    def _take_slot(self, run_dir: Path) -> tuple[Slot, int] | None:
        """The first slot whose cores and GPUs nobody on this machine has, and what holds them; as long as there are
        others, none with a GPU on which the run met trouble."""
        own = [run.slot for run in self._running.values()]
        troubled = self._troubled.get(run_dir, set())
        good = [slot for slot in self._slots if troubled.isdisjoint(gpu.uuid for gpu in slot.gpus)]
        for slot in good or self._slots:
            if slot not in own:
                locks = self._locks.take(slot.own_cores, [gpu.uuid for gpu in slot.gpus])
                if locks is not None:
                    return slot, locks
        return None

    def _end(self, run: LocalRun, code: int) -> None:
        """Record how an attempt ended and do what the policy says."""
        run_dir = run.run_dir
        if code == BUSY:
            self._adopted.add(run_dir)
            return
        end = settle_end(run_dir, code, begun_after=run.begun_after)
        if end.cause is Cause.DONE:
            self._ended[run_dir] = Look("ended", cause=end.cause)
            return
        decision = next_step(run_dir, self._launch.retries)
        if decision.verdict in AGAIN:
            if end.cause is Cause.MACHINE_TROUBLE:
                self._troubled.setdefault(run_dir, set()).update(gpu.uuid for gpu in run.slot.gpus)
            self._queue.insert(0, self._waiting(run_dir))
            return
        self._ended[run_dir] = Look("ended", cause=end.cause, reason=decision.reason)

    def _ask_holder(self, run_dir: Path) -> None:
        """Ask a process of this machine that another launcher started; one elsewhere finds the marker itself."""
        sighting = look(run_dir)
        if sighting and sighting.holder.host == os.uname().nodename and self._life.is_alive(run_dir):
            try:
                os.kill(sighting.holder.pid, signal.SIGTERM)
            except (ProcessLookupError, PermissionError):
                return


def _seconds_to_wait(last: End, decision: Decision) -> float:
    """How long a run is left alone after trouble of this machine, counted from its last end, so that a second launcher
    waits no less than the first. Trouble of another machine holds nothing back here."""
    if os.uname().nodename not in decision.avoid_hosts:
        return 0.0
    return min(decision.delay_seconds, max(0.0, last.unix_time + decision.delay_seconds - time.time()))
