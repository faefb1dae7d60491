"""`--cancel RUN …`: ask runs of a study to save a checkpoint, leave and not come back."""

import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.errors import UserError, did_you_mean
from scaling.launch.backends.base import Backend
from scaling.records.run_dir import StudyDir
from scaling.records.run_plan import RunPlan
from scaling.records.standing import find_standing

ALL = "all"


def cancel_runs(study_dir: Path, words: Sequence[str], backend: Backend) -> int:
    """Cancel what the words name; returns the exit code. Runs that have ended are left as they are, and named."""
    if not study_dir.is_dir():
        raise UserError(f"study directory {study_dir} does not exist; --out names the folder that it lies in")
    chosen = find_runs(study_dir, words)
    todo = []
    for run_dir in chosen:
        standing = find_standing(run_dir, RunPlan.load(run_dir))
        if standing.has_ended:
            print(f"{run_dir.name}: {standing.told} already", file=sys.stderr)
        else:
            todo.append(run_dir)
    backend.adopt(study_dir.resolve())
    backend.cancel(todo)
    for run_dir in todo:
        print(f"{run_dir.name}: asked to stop", file=sys.stderr)
    return 0


def find_runs(study_dir: Path, words: Sequence[str]) -> list[Path]:
    """Folders of the runs that ids, beginnings of ids, folders or `all` name; UserError for one that names none or
    several."""
    known = {run.path.name: run.path.resolve() for run in StudyDir(study_dir).run_dirs()}
    if ALL in words:
        return list(known.values())
    chosen: dict[str, Path] = {}
    for word in words:
        name = Path(word).name
        fitting = [name] if name in known else [run_id for run_id in known if run_id.startswith(name)]
        if not fitting:
            raise UserError(f"--cancel {word}: {study_dir} has no such run; {did_you_mean(name, known)}")
        if len(fitting) > 1:
            raise UserError(
                f"--cancel {word}: {len(fitting)} runs begin so, the first of them {fitting[0]}; write more of the name"
            )
        chosen[fitting[0]] = known[fitting[0]]
    return list(chosen.values())
