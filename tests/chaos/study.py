"""The study that is attacked, its unbroken twin, and one attacked copy with everything that its processes say."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.data.format.index import expand_urls, index_shards
from tests.chaos.numbers import numbers
from tests.support.tiny_study import TINY_SWEEP, write_shards

OPTIONS = ("protocol.steps=120", "defaults.keep_checkpoints=2", "launch.retries=20", "grid.seed=[0,1]")

REPOSITORY = Path(__file__).parents[2]

LAUNCH_SECONDS = 300.0
"""A launcher that takes longer hangs."""

PATIENCE_SECONDS = 20.0
"""How long processes may take to leave when the launcher has left."""

MARK = "SCALING_CHAOS_TRIAL"
"""Environment variable by which the processes of a trial are found."""

TRACEBACK = "Traceback (most recent call last)"

PATH = re.compile(r"/[^\s'\",;:()]+")


class ChaosStudy:
    """Two tiny runs on data of their own: the second is trained already, the first waits for its trial.

    Caches and the locks of cores and GPUs are the study's own, so that other launchers of the machine disturb nothing.
    """

    def __init__(self, folder: Path, num_processes: int) -> None:
        self.folder, self.num_processes = folder, num_processes
        self.data, self._sound_data = folder / "data", folder / "sound-data"
        for split, num_shards, seed in (("train", 5, 0), ("val", 2, 1)):
            write_shards(self.data / split, num_shards, seed)
            index_shards(expand_urls([str(self.data / split)]), self.data / f"{split}.json", name=split)
        shutil.copytree(self.data, self._sound_data)
        self.sweep = folder / "tiny.yaml"
        self.sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(self.data))))
        self.environment = {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")}
        self.environment |= {"TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        reference = Trial(self, folder / "reference")
        started = time.monotonic()
        assert reference.finish(), reference.words()
        self.train_seconds = time.monotonic() - started
        """About how long an undisturbed start takes; attacks strike within it."""
        self.run_ids: tuple[str, ...] = tuple(json.loads((reference.study_dir / "plan.json").read_text())["run_ids"])
        self.numbers = {run_id: numbers(reference.study_dir / run_id) for run_id in self.run_ids}
        self.planned = folder / "planned"
        shutil.copytree(reference.out, self.planned, ignore=shutil.ignore_patterns("report"))
        (self.planned / "tiny" / "trained" / f"{self.run_ids[0]}.json").unlink()
        victim = self.planned / "tiny" / self.run_ids[0]
        for path in victim.iterdir():
            if path.name != "run.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.foreign = reference.study_dir / self.run_ids[1]
        """The folder of a run that is not the first."""

    def new_trial(self, number: int) -> "Trial":
        out = self.folder / f"trial-{number}"
        shutil.copytree(self.planned, out)
        return Trial(self, out)

    def restore_data(self) -> None:
        """Bring the data again, as a person does who is told that it is damaged."""
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self._sound_data, self.data)


@dataclass
class Launcher:
    """A started command and the file that takes what it says."""

    process: "subprocess.Popen[bytes]"
    output: Path

    def words(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass
class Trial:
    """One copy of the study under attack."""

    study: ChaosStudy
    out: Path
    damaged: set[str] = field(default_factory=set)
    """Names of files that an attack damaged."""
    faults: list[str] = field(default_factory=list)
    """Tracebacks and what else must never be said."""
    hangs: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    mounted: bool = False
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def study_dir(self) -> Path:
        return self.out / "tiny"

    @property
    def run_dir(self) -> Path:
        """The run that waits to be trained."""
        return self.study_dir / self.study.run_ids[0]

    @property
    def _outputs(self) -> Path:
        return self.out.with_name(f"{self.out.name}.output")

    def start(self, *command: str, prepare: Any = None) -> Launcher:
        """A command in a session of its own."""
        self._outputs.mkdir(exist_ok=True)
        output = self._outputs / f"{next(self._count)}.txt"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=REPOSITORY,
                env={**os.environ, **self.study.environment, MARK: str(self.out)},
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=prepare,
            )
        return Launcher(process, output)

    def start_launcher(self, *more: str, prepare: Any = None) -> Launcher:
        """`python -m scaling.launch` as a person types it."""
        options = (*OPTIONS, f"launch.devices_per_run={self.study.num_processes}", "launch.local.threads=1")
        sets = [part for option in options for part in ("--set", option)]
        command = ["scaling.launch", str(self.study.sweep), "--out", str(self.out), "--retry-failed", "--no-report"]
        return self.start(*command, *sets, *more, prepare=prepare)

    def wait(self, launcher: Launcher, seconds: float = LAUNCH_SECONDS) -> int:
        """The exit code of a command; one that hangs is noted and killed."""
        try:
            code = launcher.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.hangs.append(f"{launcher.process.args} hung for {seconds} s:\n{launcher.words()}")
            self.kill_all()
            return launcher.process.wait()
        # Python answers no signal in its own first moments, and has done nothing yet.
        was_beginning = -code in (signal.SIGTERM, signal.SIGINT) and not launcher.words()
        if code not in (0, 1, 2, 130, -signal.SIGKILL) and not was_beginning:
            self.faults.append(f"exit code {code}:\n{launcher.words()}")
        return code

    def finish(self) -> bool:
        """Launch until the study is done, and do what refusals ask for: remove a record, bring the data again."""
        for _ in range(6):
            launcher = self.start_launcher()
            if self.wait(launcher) == 0:
                return True
            self.refusals.append(launcher.words())
            if self.hangs:
                return False
            self._obey(launcher.words())
        return False

    def ask(self, *command: str) -> None:
        """A command that reads: it may complain of damage in words."""
        self.wait(self.start(*command), 120)

    def processes(self) -> Iterator[int]:
        """Ids of all living processes that this trial started."""
        mark = f"{MARK}={self.out}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)

    def kill_all(self) -> int:
        """SIGKILL for the whole tree; how many there were."""
        found = list(self.processes())
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def left_running(self) -> int:
        """Processes that are still there though every launcher has left."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while list(self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.kill_all()

    def look_for_tracebacks(self) -> None:
        """In all that any process said, and in the logs of the runs."""
        logs = (*self._outputs.glob("*.txt"), *self.study_dir.glob("*/log.txt*"), *self.study_dir.glob("*.log"))
        for path in logs:
            text = path.read_text(errors="replace") if path.is_file() else ""
            if TRACEBACK in text and not _of_python_alone(text):
                self.faults.append(f"{path}:\n{text}")

    def words(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._outputs.glob("*.txt")))

    def remove(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.out)], check=False)
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self._outputs, ignore_errors=True)

    def _obey(self, words: str) -> None:
        errors = [line for line in words.splitlines() if line.startswith("error: ")]
        manifests = [path.name for path in self.study.data.glob("*.json")]
        if str(self.study.data) in words or any(name in error for error in errors for name in manifests):
            self.study.restore_data()
        runs = {self.study_dir / run_id for run_id in self.study.run_ids}
        for path in {Path(name.rstrip(".")) for name in PATH.findall(words)}:
            if not path.is_relative_to(self.study_dir) or path in (self.study_dir, *runs) or path.name == "log.txt":
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _of_python_alone(text: str) -> bool:
    """Whether Ctrl-C met the interpreter before it had come to a line of ours: nothing of ours can answer then."""
    return text.rstrip().endswith("KeyboardInterrupt") and str(REPOSITORY) not in text
