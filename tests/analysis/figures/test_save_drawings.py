"""Figures saved by several processes: the bytes of one process, whatever happens to the others."""

import dataclasses
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.canvas import save_drawings as saving
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.save_drawings import save_drawings
from analysis.figures.canvas.style import drawing_style


def drawings(count: int) -> list[Drawing]:
    made = []
    for number in range(count):
        figure = Figure()
        figure.subplots().plot([0, number], [number, 1], label=f"line {number}")
        made.append(Drawing(f"figure_{number}", "title", "caption", figure, pd.DataFrame({"x": [number]})))
    return made


@pytest.fixture(autouse=True)
def none_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every copy has ended and was waited for."""
    fork, started = os.fork, list[int]()

    def noted() -> int:
        started.append(fork())
        return started[-1]

    monkeypatch.setattr(os, "fork", noted)
    yield
    assert not [process for process in started if Path(f"/proc/{process}").exists()]


def save(folder: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    folder.mkdir()
    monkeypatch.setattr(saving, "_num_processes", lambda drawings: processes)
    with drawing_style():
        made = drawings(7)
        paths = save_drawings(made, folder)
    assert [path.name for path in paths[:5]] == [f"figure_0.{ending}" for ending in ("png", "svg", "pdf", "csv")] + [
        "figure_1.png"
    ]
    assert all(drawing.svg() == (folder / f"{drawing.name}.svg").read_text() for drawing in made)
    return {path.name: path.read_bytes() for path in paths}


def test_several_processes_write_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = save(tmp_path / "alone", 1, monkeypatch)
    assert len(alone) == 28
    assert save(tmp_path / "three", 3, monkeypatch) == alone

    original, images = os.getpid(), Drawing.save_images

    def killed(drawing: Drawing, folder: Path) -> list[Path]:
        if os.getpid() != original:
            (folder / f"{drawing.name}.png").write_text("half of an im")
            os.kill(os.getpid(), signal.SIGKILL)
        return images(drawing, folder)

    monkeypatch.setattr(Drawing, "save_images", killed)
    assert save(tmp_path / "killed", 3, monkeypatch) == alone

    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    assert save(tmp_path / "refused", 3, monkeypatch) == alone


def test_of_figures_with_one_name_the_last_stays(tmp_path: Path) -> None:
    with drawing_style():
        twins = [dataclasses.replace(drawing, name="figure") for drawing in drawings(4)]
        save_drawings(twins, tmp_path)
    assert (tmp_path / "figure.svg").read_text() == twins[-1].svg()


def test_an_error_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saving, "_num_processes", lambda drawings: 3)
    with drawing_style(), pytest.raises(FileNotFoundError, match="figure_"):
        save_drawings(drawings(7), tmp_path / "missing")
    assert capfd.readouterr() == ("", "")
