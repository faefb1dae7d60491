"""Rows of a run's log, for tests that look at a few of their fields."""

from scaling.records.events import Event, Kind


def log_row(
    run_id: str,
    kind: Kind,
    step: int,
    metrics: dict[str, float],
    *,
    attempt: int = 1,
    batch: int = 32,
    train_seconds: float = 0.0,
    pause_seconds: float = 0.0,
) -> Event:
    """A row of a run on one CPU that has seen `step` batches of different images."""
    return Event(
        run_id=run_id,
        attempt=attempt,
        kind=kind,
        step=step,
        examples_seen=step * batch,
        unique_examples=step * batch,
        flops=float(step > 0),
        train_seconds=train_seconds,
        pause_seconds=pause_seconds,
        device="cpu",
        num_devices=1,
        precision="fp32",
        metrics=metrics,
    )
