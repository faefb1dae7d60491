"""scancel of one task of an array: it saves and stays away, the others are untouched, and it can be brought back."""

from collections.abc import Callable
from pathlib import Path

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.run_dir import RunDir
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import held_at, needs_slurm, wait_for_result, wait_until

pytestmark = needs_slurm

STEPS = ("protocol.steps=30", "defaults.log_every=1", "defaults.validate_every=15", "defaults.checkpoint_every=15")


def test_a_cancelled_task_stays_away_until_it_is_asked_for_again(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    runs = [run.run_dir for run in plan_tiny(*STEPS, "grid.seed=[0, 1, 2, 3]", name="cancel")]
    study = tmp_path / "cancel"
    lab = start_lab("--nodes", "1", "--cpus", "2")
    backend = make_backend()
    jobs = [handle.job or "" for handle in backend.submit(runs, None)]
    lab.run("scancel", jobs[3])  # Waits: there are two CPUs.
    with held_at(runs[0], 3):
        backend.cancel([runs[2]])  # By the launcher, while it waits.
        # By a person, in mid-run: SIGTERM, and SIGKILL after KillWait.
        lab.run("scancel", jobs[0])
        # Before its signals Slurm sends SIGCONT, so that the process need not be let go.
        wait_until(lambda: read_ends(runs[0]).all)
    wait_for_result(runs[1])
    wait_until(lambda: not {"RUNNING", "COMPLETING", "PENDING"} & set(lab.states().values()))
    looks = backend.poll(study)
    assert [looks[run].cause for run in runs] == [Cause.CANCELLED, Cause.DONE, Cause.CANCELLED, Cause.CANCELLED]
    [end] = read_ends(runs[0]).all
    assert end.cause is Cause.CANCELLED and end.step >= 3
    assert list(RunDir(runs[0]).checkpoints.glob(f"step_{end.step:08d}*/COMPLETE"))
    assert [requested_stop(run) for run in runs] == [Cause.CANCELLED, None, Cause.CANCELLED, Cause.CANCELLED]
    for run in (runs[0], runs[2], runs[3]):
        assert find_standing(run).status is Status.CANCELLED
    assert not read_ends(runs[2]).all and len(read_ends(runs[1]).all) == 1

    backend.submit([runs[0]], None)  # What --retry-failed does.
    wait_for_result(runs[0])
    assert read_ends(runs[0]).all[-1].cause is Cause.DONE
    assert requested_stop(runs[0]) is None
