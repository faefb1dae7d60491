"""What code and which packages this process runs; found without importing any of them."""

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import scaling

PACKAGES = (
    *("torch", "deepspeed", "timm", "torchvision", "numpy"),
    *("pillow", "simplejpeg", "imagecodecs", "nvidia-nvimgcodec-cu13"),
)


@dataclass(frozen=True, slots=True)
class HarnessSource:
    """The harness that runs here."""

    version: str
    git_commit: str
    """Empty when it does not run from a git checkout."""
    git_dirty: bool


def describe_harness_source() -> HarnessSource:
    """Asked anew at each attempt: the checkout may have changed since the launcher was started."""
    folder = Path(scaling.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or not _git(folder, "ls-files", "--error-unmatch", "__init__.py"):
        return HarnessSource(scaling.__version__, "", False)
    return HarnessSource(scaling.__version__, commit, bool(_git(folder.parent, "status", "--porcelain")))


@cache
def describe_packages() -> dict[str, str]:
    """Versions of Python and of the libraries that can change numbers."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command, empty when git is missing or says no. It takes no lock: one that is killed with its run
    would leave the user's checkout locked."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
