"""Dashboards that follow a run: TensorBoard, Weights & Biases, MLflow, trackio, by name and off by default.

They get the rows that `events.jsonl` gets, after it, and nothing is ever read back from them. A tracker that is not
installed or fails costs one warning and never the run. TensorBoard drops what a restart supersedes; the others cannot
take rows back, so there every attempt is a run of its own, in a group named after the run, from its first step on.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from scaling.records.events import Event
from scaling.records.run_plan import RunPlan

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """The trackers that a plan names, opened by the first event of an attempt."""

    def __init__(self, run_dir: Path, plan: RunPlan) -> None:
        self._run_dir, self._plan = run_dir, plan
        self._open: dict[str, Tracker] | None = None

    def record(self, event: Event) -> None:
        """Hand on the metrics of an event."""
        if self._open is None:
            self._open = {}
            for name in self._plan.engine.trackers:
                self._try(name, lambda name=name: self._start(name, event))  # type: ignore[misc]
        for name, tracker in list(self._open.items()):
            if event.metrics:
                self._try(name, lambda tracker=tracker: tracker.log(event.step, event.metrics))  # type: ignore[misc]

    def close(self) -> None:
        for name, tracker in list((self._open or {}).items()):
            self._try(name, tracker.close)

    def _start(self, name: str, event: Event) -> None:
        assert self._open is not None
        self._open[name] = OPENERS[name](self._run_dir, self._plan, event)

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            logger.warning("tracker %s is disabled (%s: %s); the run continues", name, type(error).__name__, error)
            (self._open or {}).pop(name, None)


class _TensorBoard:
    def __init__(self, run_dir: Path, plan: RunPlan, event: Event) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = event.step + 1 if event.kind == "start" else None
        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=purge)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run_dir: Path, plan: RunPlan, event: Event) -> None:
        import wandb

        self._run = wandb.init(
            project=plan.study,
            group=plan.run_id,
            name=_attempt_name(plan, event),
            dir=str(run_dir),
            config=plan.model_dump(mode="json"),
            settings=wandb.Settings(silent=True),
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, run_dir: Path, plan: RunPlan, event: Event) -> None:
        import mlflow

        # MLflow's own choice of a server or database wins over a file beside the runs.
        chosen = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else f"sqlite:///{run_dir.parent}/mlflow.db"
        self._client = mlflow.MlflowClient(chosen)
        experiment = self._client.get_experiment_by_name(plan.study)
        number = experiment.experiment_id if experiment else self._client.create_experiment(plan.study)
        tags = {"run_id": plan.run_id, "attempt": str(event.attempt), "identity": plan.identity}
        run = self._client.create_run(number, tags=tags, run_name=_attempt_name(plan, event))
        self._id = run.info.run_id
        for name, value in plan.recipe.model_dump().items():
            self._client.log_param(self._id, name, value)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _Trackio:
    def __init__(self, run_dir: Path, plan: RunPlan, event: Event) -> None:
        import trackio

        self._run: Any = trackio.init(
            project=plan.study,
            group=plan.run_id,
            name=_attempt_name(plan, event),
            config=plan.recipe.model_dump(mode="json"),
            embed=False,
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


def _attempt_name(plan: RunPlan, event: Event) -> str:
    return f"{plan.run_id}-attempt{event.attempt}"


OPENERS: dict[str, Callable[[Path, RunPlan, Event], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
    "trackio": _Trackio,
}
