"""Fixtures: a Slurm of its own for every test, and a back end that talks to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scaling.launch.backends.base import Resources
from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.launch.backends.slurm.cluster import max_array_tasks
from scaling.spec.launch_spec import LaunchSpec
from tests.launch.backends.slurm.lab import Lab, running_lab

StartLab = Callable[..., Lab]


@pytest.fixture
def start_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartLab]:
    """`start_lab("--nodes", "2")` starts a Slurm that the test's own process talks to as well."""
    with ExitStack() as stack:

        def start(*options: str) -> Lab:
            lab = stack.enter_context(running_lab(tmp_path / "slurm", *options))
            for name in set(lab.environment) - {"PYTEST_CURRENT_TEST"}:
                if os.environ.get(name) != lab.environment[name]:
                    monkeypatch.setenv(name, lab.environment[name])
            max_array_tasks.cache_clear()
            return lab

        yield start


@pytest.fixture
def make_backend(tmp_path: Path) -> Callable[..., SlurmBackend]:
    """`make_backend("save_before: 20s", max_parallel=2)`: a profile's text, and the settings of `launch.slurm`."""

    def make(profile: str = "", retries: int = 2, **section: object) -> SlurmBackend:
        path = tmp_path / "profile.yaml"
        path.write_text(("" if "save_before" in profile else "save_before: 20s\n") + profile)
        launch = {"retries": retries, "slurm": {"profile": str(path), "time": "10m", **section}}
        return SlurmBackend(LaunchSpec.model_validate(launch), Resources())

    return make
