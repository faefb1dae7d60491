"""The loop that takes a study from its plan to its results on any back end.

It submits runs that are ready, shows where they stand and tells the source of runs what has ended, so that others may
follow. Runs that another process holds are waited for and shown; when their holder is gone, this launcher takes them
over. Everything shown is read from the run directories; when an attempt is made again is the back end's business.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.backends.base import Backend, Look, next_step
from scaling.launch.dry_run import work_left
from scaling.launch.graph.study_graph import RunSource
from scaling.launch.leave import leave_jobs
from scaling.launch.price.forecast import RateBook, Work, remaining_seconds
from scaling.launch.price.rates import LiveRates, learn, rates_of
from scaling.launch.progress import ProgressView, Running
from scaling.launch.study_dir import PlannedRun, write_run
from scaling.records.attempts.causes import Cause, Verdict
from scaling.records.ownership.lease import LifeWatch

LOOK_AGAIN_SECONDS = 1.0
"""How often a run that another process holds is looked at."""

ELSEWHERE = Look("running", where="another launcher")


@dataclass
class _Open:
    """A run that has not ended."""

    run: PlannedRun
    look: Look | None = None
    """As last seen; None before it was submitted or found."""
    started: float = field(default_factory=time.monotonic)
    """When it was first seen running, by this launcher."""
    look_at: float = 0.0
    """When to look at it again, while another process holds it."""


class Watch:
    """One session of a launcher over one study."""

    def __init__(self, backend: Backend, source: RunSource, study_dir: Path, *, cap: int | None, retries: int) -> None:
        self._backend, self._source, self._study_dir = backend, source, study_dir.resolve()
        self._cap, self._retries = cap, retries
        self._open: dict[Path, _Open] = {}
        self._life = LifeWatch()
        self._rates: RateBook = rates_of(source.runs())
        self._live = LiveRates()
        self._told: set[str] = set()
        """Reasons that have been printed: once for all runs that share one."""
        self._stopped: set[Path] = set()
        """Runs that were asked to stop as they are of no further use."""

    def run(self) -> None:
        """Until every run ended; Ctrl-C lets runs of this machine save a checkpoint first, asks what is to become of
        the jobs of a cluster, and is passed on."""
        try:
            with ProgressView() as view:
                self._backend.adopt(self._study_dir)
                view.update(*self._picture())
                while self._turn(view):
                    time.sleep(self._backend.poll_seconds)
        except KeyboardInterrupt as request:
            self._leave(request)
            raise
        self._backend.close(detach=False)

    def _leave(self, request: KeyboardInterrupt) -> None:
        name = str(request) or "Ctrl-C"
        if not self._backend.scheduler:
            print(f"stopping ({name}): every running run saves a checkpoint first", file=sys.stderr)
            self._backend.close(detach=False)
            return
        print(f"leaving ({name})", file=sys.stderr)
        own = [one.run.run_dir for one in self._open.values() if one.look is not ELSEWHERE]
        leave_jobs(self._backend, self._study_dir, own, ask=not request.args)

    def submit_all(self) -> int:
        """Hand over what is ready and not already under way, for a launcher that leaves; how many runs that is."""
        self._backend.adopt(self._study_dir)
        self._stop_useless(None)
        looks = self._backend.poll(self._study_dir)
        self._open_ready()
        idle = [one for one in self._open.values() if self._is_idle(one, looks.get(one.run.run_dir))]
        self._submit(idle)
        return len(idle)

    def _turn(self, view: ProgressView) -> bool:
        """One look at everything; False when all runs have ended."""
        self._stop_useless(view)
        self._open_ready()
        looks = self._backend.poll(self._study_dir)
        idle = []
        for one in list(self._open.values()):
            if self._is_idle(one, looks.get(one.run.run_dir), view):
                idle.append(one)
        self._submit(idle)
        self._open_ready()
        for note in self._source.notes():
            view.note(note)
        view.update(*self._picture())
        return bool(self._open)

    def _stop_useless(self, view: ProgressView | None) -> None:
        """Stop what its source wants no more of; a scheduler that does not answer is asked again."""
        run_dirs = [run_dir for run_dir in self._source.to_stop() if run_dir not in self._stopped]
        if not run_dirs:
            return
        try:
            self._backend.cancel(run_dirs, Cause.PRUNED)
        except UserError as error:
            if view is not None and str(error) not in self._told:
                self._told.add(str(error))
                view.note(str(error))
            return
        self._stopped.update(run_dirs)

    def _open_ready(self) -> None:
        for run in self._source.ready():
            self._open[run.run_dir] = _Open(run)

    def _submit(self, idle: Iterable[_Open]) -> None:
        run_dirs = [one.run.run_dir for one in idle]
        for one in idle:
            # What was asked for while another process held the run.
            write_run(self._study_dir, one.run.plan)
            one.look = Look("queued")
        if run_dirs:
            self._backend.submit(run_dirs, self._cap)

    def _is_idle(self, one: _Open, look: Look | None, view: ProgressView | None = None) -> bool:
        """Take in what the back end says of a run; whether it has to be submitted."""
        if look is not None and look.phase in ("queued", "running", "unknown"):
            self._note(one, look, view)
            return False
        if one.look_at > time.monotonic():
            return False
        one.run = one.run.look_again(self._life)
        if one.run.standing.is_alive:
            if one.look is not ELSEWHERE:
                self._note(one, ELSEWHERE, view)
            one.look_at = time.monotonic() + LOOK_AGAIN_SECONDS
            return False
        if one.run.standing.has_ended:
            self._finish(one, view)
            return False
        # A scheduler still remembers the job of a run that a person has asked for again: that end is an old one.
        was_seen, has_job_ended = one.look is not None, look is not None and look.phase == "ended"
        is_over = was_seen and has_job_ended
        if not is_over and (was_seen or has_job_ended):
            is_over = next_step(one.run.run_dir, self._retries).verdict is Verdict.GIVE_UP
        if is_over:
            one.run = one.run.look_again(self._life)
            self._finish(one, view)
            return False
        return True

    def _note(self, one: _Open, look: Look, view: ProgressView | None) -> None:
        before, one.look = one.look, look
        if look.phase == "running" and (before is None or before.phase != "running"):
            one.started = time.monotonic()
            if look is ELSEWHERE and view is not None:
                holder = one.run.standing.reason or "by another process"
                view.note(f"{one.run.plan.run_id} is already running {holder}; waiting for it")
        if look.is_stuck and view is not None and look.reason not in self._told:
            self._told.add(look.reason)
            view.note(f"{one.run.plan.run_id} {look.reason}")
        was_started = before is not None and before.phase == "running"
        if look.phase == "queued" and look.reason and was_started and view is not None:
            view.note(f"{one.run.plan.run_id} {look.reason}")

    def _finish(self, one: _Open, view: ProgressView | None) -> None:
        del self._open[one.run.run_dir]
        self._source.ended(one.run)
        learn(self._rates, one.run)
        if view is not None:
            view.ended(one.run, time.monotonic() - one.started)

    def _picture(self) -> "tuple[list[Running], int, int, float | None]":
        """The running runs as their folders tell, how many have ended, how many there are, and the seconds left."""
        running, lefts, waiting = [], [], []
        rates = self._rates.copy()
        for one in self._open.values():
            if one.look is None or one.look.phase != "running":
                waiting.append(work_left(one.run))
                continue
            state = Running.load(one.run, time.monotonic() - one.started, one.look.where)
            running.append(state)
            lefts.append(Work(one.run.plan, state.share_left, one.run.standing.missing_evals or None))
            self._live.look(rates, one.run.plan, state)
        waiting += [Work(plan) for plan in self._source.foreseen()]
        known = self._source.runs()
        return running, len(known) - len(self._open), len(known), remaining_seconds(rates, waiting, lefts)
