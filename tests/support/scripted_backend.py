"""A back end that plays a list of exit codes per run, with the real policy and real records around it."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scaling.launch.backends.base import AGAIN, Handle, Look, Resources, next_step
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause, cause_of_exit
from scaling.records.attempts.contract import DONE
from scaling.records.attempts.ends import End, append_end
from scaling.records.ownership.stop_request import StopCause, request_stop
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState


def result_of(plan: RunPlan, accuracy: float = 0.5) -> RunResult:
    """The result of a run that went as planned, with this upstream accuracy."""
    examples = plan.schedule.steps * plan.schedule.batch
    return RunResult(
        run_id=plan.run_id,
        identity=plan.identity,
        attempts=1,
        metrics={"upstream/precision_at_1": accuracy, "upstream/loss": 1.0},
        weights_sha256="0" * 64,
        best_step=plan.schedule.steps,
        steps=plan.schedule.steps,
        examples_seen=examples,
        unique_examples=min(examples, plan.subset.num_samples),
        flops=examples * plan.model.flops_train_per_image,
        train_seconds=10.0,
        pause_seconds=0.0,
        device_hours=10.0 * plan.engine.num_devices / 3600,
        images_per_second=examples / 10.0,
        device="a device",
        num_devices=plan.engine.num_devices,
        precision="fp32",
        threads=1,
        hardware={},
        packages={},
        git_commit="",
        git_dirty=False,
    )


class ScriptedBackend:
    """Two runs at a time; each poll ends what runs with the next code of its script.

    Runs that the script does not name end with `default`, or, without one, are a KeyError. `result` makes the result of
    one that is done.
    """

    settings = None
    scheduler = ""
    poll_seconds = 0.0
    room = 2

    def __init__(
        self,
        script: Mapping[str, Sequence[int]],
        retries: int,
        *,
        default: int | None = None,
        result: Callable[[RunPlan], RunResult] = result_of,
    ) -> None:
        self._default, self._result = default, result
        self._script = {name: deque(codes) for name, codes in script.items()}
        self._retries = retries
        self._queue: list[Path] = []
        self._running: list[Path] = []
        self._ended: dict[Path, Look] = {}
        self.started: list[str] = []
        self.submitted: list[str] = []
        self.most_at_once = 0
        self.closed: list[bool] = []

    def check(self, need: Resources) -> None: ...

    def submit(self, run_dirs: Sequence[Path], cap: int | None) -> list[Handle]:
        for run_dir in run_dirs:
            self._ended.pop(run_dir, None)
        self._queue += run_dirs
        self.submitted += [run_dir.name for run_dir in run_dirs]
        return [Handle(run_dir, "scripted", "", index, None) for index, run_dir in enumerate(run_dirs)]

    def adopt(self, study_dir: Path) -> list[Handle]:
        return []

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        for run_dir in self._running:
            known = self._default is None or run_dir.name in self._script
            self._end(run_dir, self._script[run_dir.name].popleft() if known else self._default or DONE)
        self._running = []
        while self._queue and len(self._running) < self.room:
            self._running.append(self._queue.pop(0))
            self.started.append(self._running[-1].name)
        self.most_at_once = max(self.most_at_once, len(self._running))
        looks = dict.fromkeys(self._queue, Look("queued")) | dict.fromkeys(self._running, Look("running"))
        return self._ended | looks

    def cancel(self, run_dirs: Sequence[Path], cause: StopCause = Cause.CANCELLED) -> None:
        for run_dir in run_dirs:
            request_stop(run_dir, cause)

    def close(self, *, detach: bool) -> None:
        self.closed.append(detach)

    def _end(self, run_dir: Path, code: int) -> None:
        """As training and the local back end leave a run."""
        attempt, cause = claim_attempt(run_dir), cause_of_exit(code)
        if code == DONE:
            self._result(RunPlan.load(run_dir)).save(run_dir)
        append_end(run_dir, End(attempt=attempt.attempt, cause=cause, code=code, message=f"code {code}"))
        RunState(attempt=attempt.attempt).save(run_dir)
        if next_step(run_dir, self._retries).verdict in AGAIN:
            self._queue.insert(0, run_dir)
        else:
            self._ended[run_dir] = Look("ended", cause=cause)
