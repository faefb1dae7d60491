"""What tests look for in a run's folder."""

from pathlib import Path

from scaling.records.run_dir import RunDir
from scaling.train.checkpoints.checkpoint import COMPLETE, checkpoint_number


def checkpoints(run_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [marker.parent for marker in RunDir(run_dir).checkpoints.glob(f"*/{COMPLETE}")]
    return sorted(
        (path for path in found if checkpoint_number(path.name)), key=lambda path: checkpoint_number(path.name)
    )


def steps_saved(run_dir: Path) -> list[int]:
    """Their steps, oldest first."""
    return [int(path.name[5:13]) for path in checkpoints(run_dir)]
