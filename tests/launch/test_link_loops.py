"""Links that lead back to themselves, in the place of whatever a launcher reads: one sentence."""

import shutil
from pathlib import Path

import pytest

from scaling.errors import run_command
from scaling.launch.command import main

PLACES = ("data/train.json", "data/val.json", "data", "cache", "tiny.yaml", "runs")


@pytest.mark.parametrize("place", PLACES)
def test_a_link_to_itself_is_refused_by_name(
    place: str, plan_tiny, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_tiny()
    shutil.copytree(tiny_data, tmp_path / "data")
    looped = tmp_path / place
    shutil.rmtree(looped, ignore_errors=True)
    looped.unlink(missing_ok=True)
    looped.symlink_to(looped)
    settings = (f"data.root={tmp_path / 'data'}", f"data.cache={tmp_path / 'cache'}")
    sets = [word for setting in settings for word in ("--set", setting)]
    code = run_command(main, [str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "runs"), "--dry-run", *sets])
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and told.startswith("error: ") and looped.name in told, told
