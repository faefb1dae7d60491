"""The ways in which training ends early, and how the first process learns why another one did."""

from pathlib import Path

from scaling.errors import UserError


class DivergenceError(RuntimeError):
    """Loss or gradient are no longer numbers."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written."""


def describe(error: Exception) -> str:
    """One line for the records; a message meant for the user stands for itself."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def leave_word(run_dir: Path, rank: int, message: str) -> None:
    """Tell the first process why this one fails: it keeps the records, and would see only a connection that ends."""
    _word_path(run_dir, rank).write_text(message, encoding="utf-8")


def read_words(run_dir: Path, world: int) -> list[str]:
    """What the other processes of this attempt said before they failed."""
    paths = [_word_path(run_dir, rank) for rank in range(1, world)]
    return [f"process {path.suffix[1:]}: {path.read_text(encoding='utf-8')}" for path in paths if path.exists()]


def forget_words(run_dir: Path) -> None:
    """Remove what the processes of an earlier attempt said."""
    for path in run_dir.glob("failure.*"):
        path.unlink(missing_ok=True)


def _word_path(run_dir: Path, rank: int) -> Path:
    return run_dir / f"failure.{rank}"
