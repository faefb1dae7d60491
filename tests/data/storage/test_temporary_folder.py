"""What a process keeps on a disk goes with it, or with the next process when it was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

OWNER = """
import sys
from scaling.data.storage.temporary_folder import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "shard").write_bytes(b"x" * 1000)
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`owner()` starts a process that has a folder in tmp_path, and gives both."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    started = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().rstrip("\n"))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_folders_of_killed_processes_go_and_those_of_living_ones_stay(owner, tmp_path: Path) -> None:
    (tmp_path / "scaling-shards").mkdir()  # No name of ours.
    killed, forgotten = owner()
    living, used = owner()
    killed.kill()
    killed.wait()
    assert (forgotten / "shard").exists()
    last, own = owner()
    assert not forgotten.exists() and (used / "shard").exists() and (own / "shard").exists()
    for process in (living, last):
        process.communicate()
        assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scaling-shards"]
