"""Which harness planned a run: its version and, when it runs from a git checkout, the commit and whether the
checkout had uncommitted changes."""

import subprocess
from pathlib import Path

import scaling
from scaling.records.run_plan import HarnessPlan


def describe_harness() -> HarnessPlan:
    folder = Path(scaling.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    if not commit or not tracked:
        return HarnessPlan(version=scaling.__version__, git_commit="", git_dirty=False)
    return HarnessPlan(
        version=scaling.__version__, git_commit=commit, git_dirty=bool(_git(folder.parent, "status", "--porcelain"))
    )


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command, empty when git is missing or says no."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
