"""A small study launched by the command line, on this machine or inside a cluster's network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.launch.backends.ray.lab import MARK, run_dirs, wait_until
from tests.support.tiny_study import TINY_SWEEP

STEPS = ("protocol.steps=30", "defaults.log_every=1", "defaults.validate_every=15", "defaults.checkpoint_every=15")


class Study:
    """One sweep in a folder; `settings` are its `--set`, `inside` says where its commands run."""

    def __init__(
        self,
        folder: Path,
        data: Path,
        mark: str,
        settings: Sequence[str] = (),
        inside: Callable[..., list[str]] = lambda *command: list(command),
    ) -> None:
        self.folder, self.mark, self._inside = folder, mark, inside
        self._settings = [part for setting in (*STEPS, *settings) for part in ("--set", setting)]
        folder.mkdir(exist_ok=True)
        (folder / "tiny.yaml").write_text(TINY_SWEEP.format(root=json.dumps(str(data))))

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "scaling.launch",
            str(self.folder / "tiny.yaml"),
            "--no-report",
            *self._settings,
        ]
        return subprocess.Popen(
            self._inside(*command, "--backend", "ray", "--out", str(self.folder / "runs"), *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {MARK: self.mark},
            cwd=self.folder,
        )

    def launch(self, *options: str) -> tuple[int, str]:
        """Exit code and what was said on stderr."""
        process = self.start(*options)
        _, told = process.communicate(timeout=300)
        return process.returncode, told

    def planned(self, number: int = 2) -> list[Path]:
        """The folders of its runs, once all are there."""
        wait_until(lambda: len(run_dirs(self.folder / "runs" / "tiny")) == number, 60, "run folders")
        return run_dirs(self.folder / "runs" / "tiny")
