"""Attacks on files: bits, ends, blocks, whole files and folders, and things in their place; at rest or under a run."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.chaos.processes import moment, trainers, wait
from tests.chaos.study import Trial
from tests.support.ranks import codes

Generator = np.random.Generator

Damage = Callable[[Trial, Generator, Path], None]


def flip_a_bit(trial: Trial, draw: Generator, path: Path) -> None:
    """One bit, as a failing disk does."""
    content = bytearray(path.read_bytes())
    if content:
        content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)


def spoil_a_block(trial: Trial, draw: Generator, path: Path) -> None:
    """512 bytes are zeros or noise."""
    content = bytearray(path.read_bytes())
    start = int(draw.integers(len(content) + 1)) // 512 * 512
    length = min(512, len(content) - start)
    content[start : start + length] = bytes(length) if draw.random() < 0.5 else draw.bytes(length)
    path.write_bytes(content)


def cut_off(trial: Trial, draw: Generator, path: Path) -> None:
    """The file ends early, as after a power cut."""
    os.truncate(path, int(draw.integers(path.stat().st_size + 1)))


def append(trial: Trial, draw: Generator, path: Path) -> None:
    """Something stands behind the end."""
    with path.open("ab") as stream:
        stream.write(draw.bytes(int(draw.integers(1, 2000))) if draw.random() < 0.5 else path.read_bytes()[-500:])


def delete(trial: Trial, draw: Generator, path: Path) -> None:
    path.unlink(missing_ok=True)


def take_from_another_run(trial: Trial, draw: Generator, path: Path) -> None:
    """The record of the same name of another run, or another shard, in the place of this one."""
    others = [one for one in trial.study.foreign.rglob(path.name) if one.is_file()]
    others += [one for one in path.parent.glob(f"*{path.suffix}") if one != path and one.is_file()]
    if others:
        shutil.copy(others[int(draw.integers(len(others)))], path)


def put_something_else(trial: Trial, draw: Generator, path: Path) -> None:
    """A folder, a pipe that nobody writes to, a link to nowhere or to itself, in the place of a file."""
    path.unlink(missing_ok=True)
    match int(draw.integers(4)):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(path.with_name("nowhere"))
        case _:
            path.symlink_to(path)


DAMAGES: tuple[Damage, ...] = (
    flip_a_bit,
    spoil_a_block,
    cut_off,
    append,
    delete,
    take_from_another_run,
    put_something_else,
)


def _attack(damage: Damage) -> Callable[[Trial, Generator], None]:
    """The damage of one to three files, at rest or while a run trains."""

    def attack(trial: Trial, draw: Generator) -> None:
        ranks = trainers(trial) if draw.random() < 0.5 else []
        if ranks:
            wait(ranks, moment(trial, draw))
        for _ in range(int(draw.integers(1, 4))):
            path = draw_file(trial, draw)
            if path is None:
                continue
            trial.damaged.add(path.name)
            try:
                damage(trial, draw, path)
            except FileNotFoundError:
                continue  # A running run has removed it in between.
        codes(ranks)

    attack.__name__ = damage.__name__
    return attack


def pull_away_a_folder(trial: Trial, draw: Generator) -> None:
    """The folder of a run, of the study, of checkpoints and the like is removed or moved, at rest or under a run."""
    ranks = trainers(trial) if draw.random() < 0.6 else []
    if ranks:
        wait(ranks, moment(trial, draw))
    folders = [trial.study_dir, *sorted(path for path in trial.study_dir.rglob("*") if path.is_dir())]
    folder = folders[int(draw.integers(len(folders)))]
    trial.damaged |= {path.name for path in folder.rglob("*")}
    if draw.random() < 0.5:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        shutil.rmtree(trial.out / "away", ignore_errors=True)
        if folder.is_dir():
            folder.rename(trial.out / "away")
    codes(ranks)


def stray_files(trial: Trial, draw: Generator) -> None:
    """Copies that a person or an editor left behind, and what killed writers leave."""
    path = draw_file(trial, draw)
    if path is not None:
        shutil.copy(path, path.with_name(path.name + ".bak"))
    trial.run_dir.mkdir(exist_ok=True, parents=True)
    for name in (".state.json.123.tmp", ".lease.elsewhere-77-0.tmp", "result.json~", "#run.json#"):
        (trial.run_dir / name).write_bytes(b"half a")
    for steps in trial.study_dir.glob("*/checkpoints"):
        for folder in sorted(steps.glob("step_*"))[-1:]:
            shutil.copytree(folder, folder.with_name(f"{folder.name}.bak"), dirs_exist_ok=True)
            shutil.copytree(folder, folder.with_name(f".{folder.name}.partial"), dirs_exist_ok=True)
            (folder.parent / "step_").mkdir(exist_ok=True)
    if draw.random() < 0.3:
        copy = trial.study_dir / f"{trial.study.run_ids[1]} (copy)"
        if not copy.exists():
            shutil.copytree(trial.study.foreign, copy)


FILE_ATTACKS: tuple[Callable[[Trial, Generator], None], ...] = (
    *map(_attack, DAMAGES),
    pull_away_a_folder,
    stray_files,
)


def draw_file(trial: Trial, draw: Generator) -> Path | None:
    """A file of the study or of its data; every kind of record alike."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for root in (trial.study_dir, trial.study.data):
        for path in sorted(root.rglob("*")):
            if path.is_file() and "report" not in path.parts and not path.name.endswith((".bak", ".tmp")):
                is_first = trial.run_dir in path.parents
                kinds[f"{is_first} {_kind(path)}"].append(path)
    if not kinds:
        return None
    paths = kinds[sorted(kinds)[int(draw.integers(len(kinds)))]]
    return paths[int(draw.integers(len(paths)))]


def _kind(path: Path) -> str:
    return path.suffix if path.suffix == ".tar" or path.parent.name in ("attempts", "evals", "trained") else path.name
