"""Jobs that Slurm refuses, holds or can never start: named in one sentence, at once or within one interval."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.launch.backends.base import Resources
from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.launch.backends.slurm.batch import load_batches
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import Lab, needs_slurm, wait_until

pytestmark = needs_slurm

MakeBackend = Callable[..., SlurmBackend]


def folders(study: Path, count: int) -> list[Path]:
    """Run directories for jobs that never start."""
    runs = [study / f"run{number}" for number in range(count)]
    for run in runs:
        run.mkdir(parents=True)
    return runs


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    told = str(caught.value)
    assert "\n" not in told and told.startswith("Slurm refuses the job: "), told
    return told


def stuck(backend: SlurmBackend, run: Path, reason: str) -> str:
    """What a run is said to wait for, as soon as Slurm has looked at it; one query an answer."""
    wait_until(lambda: f"({reason})" in backend.poll(run.parent)[run].reason, 10)
    look = backend.poll(run.parent)[run]
    assert look.phase == "queued" and look.is_stuck
    return look.reason


def test_what_slurm_refuses_is_told_with_its_field(start_lab: StartLab, make_backend: MakeBackend) -> None:
    start_lab("--nodes", "1")
    for profile, expected in (
        ("partition: gpu\n", ["invalid partition", "partition of the profile is 'gpu'"]),
        ("constraint: h100\n", ["Invalid feature", "constraint of the profile is 'h100'"]),
        ("gpus: h100:8\n", ["gres", "gpus of the profile is 'h100:8'"]),
        ("cpus_per_task: 64\n", ["node configuration is not available", "64 cores"]),
        ("memory_per_task: 64G\n", ["node configuration is not available", "65536 MiB"]),
        ("reservation: night\n", ["reservation", "'night'"]),
        ("exclude: n9\n", ["node name", "'n9'"]),
        ("sbatch: {colour: red}\n", ["unrecognized option", "sbatch of the profile has colour: 'red'"]),
        ("sbatch: {begin: someday}\n", ["Invalid --begin", "sbatch of the profile has begin: 'someday'"]),
        ("sbatch: {mail-type: maybe}\n", ["Invalid --mail-type", "mail-type: 'maybe'"]),
    ):
        backend = make_backend(profile)
        told = refusal(lambda: backend.check(Resources()))  # noqa: B023
        for part in expected:
            assert part in told, told
    make_backend().check(Resources())


def test_what_waits_for_a_person_is_named_in_one_sentence(
    start_lab: StartLab, make_backend: MakeBackend, tmp_path: Path
) -> None:
    lab = start_lab(
        *("--nodes", "1", "--conf", "PartitionName=short Nodes=ALL MaxTime=5 State=UP"),
        *("--conf", "PartitionName=down Nodes=ALL State=DOWN"),
    )
    [held] = folders(tmp_path / "held", 1)
    backend = make_backend("sbatch: {hold: true}\n")
    [handle] = backend.submit([held], None)
    told = stuck(backend, held, "JobHeldUser")
    assert "held by its user" in told and f"scontrol release {(handle.job or '').partition('_')[0]}" in told
    [long] = folders(tmp_path / "long", 1)
    backend = make_backend("partition: short\n")
    backend.submit([long], None)
    assert "can never start: its time is above the limit" in stuck(backend, long, "PartitionTimeLimit")
    [down] = folders(tmp_path / "down", 1)
    backend = make_backend("partition: down\n")
    backend.submit([down], None)
    wait_until(lambda: "the partition is down (PartitionDown)" in backend.poll(down.parent)[down].reason, 10)
    [needs] = folders(tmp_path / "needs", 1)
    first = lab.run("sbatch", "--parsable", "--wrap", "false", "-o", "/dev/null")
    backend = make_backend(f"sbatch: {{dependency: 'afterok:{first}'}}\n")
    backend.submit([needs], None)
    assert "the job that it depends on failed" in stuck(backend, needs, "DependencyNeverSatisfied")


def test_a_full_quota_is_told_and_leaves_nothing_half_submitted(
    start_lab: StartLab, make_backend: MakeBackend, tmp_path: Path
) -> None:
    lab = start_lab("--nodes", "1", "--conf", "MaxJobCount=6", "--conf", "MaxArraySize=5")
    runs = folders(tmp_path / "many", 10)
    backend = make_backend("sbatch: {begin: now+1hour}\n")
    told = refusal(lambda: backend.submit(runs, None))
    assert "wait until jobs have ended" in told
    refused = [batch for batch in load_batches(runs[0].parent) if batch.refused]
    looks = backend.poll(runs[0].parent)
    assert len(refused) == 1 and looks[Path(refused[0].runs[0])].phase == "gone"
    assert looks[Path(refused[0].runs[0])].reason == told
    clear_queue(lab)
    assert len(backend.submit(runs[:4], None)) == 4


def clear_queue(lab: Lab) -> None:
    lab.run("scancel", "--state=PENDING", "--full", "--me", check=False)
    lab.run("scontrol", "update", "Partition=main", "State=UP")
