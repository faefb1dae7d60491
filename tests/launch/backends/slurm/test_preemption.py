"""A partition of higher priority takes the nodes of running jobs: they save, come back, end with the same numbers."""

from collections.abc import Callable
from pathlib import Path

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.causes import COUNTED, Cause
from scaling.records.attempts.ends import read_ends
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import (
    all_held_at,
    assert_same_numbers,
    needs_slurm,
    train_here,
    wait_for_result,
    wait_until,
)

pytestmark = needs_slurm

STEPS = ("protocol.steps=30", "defaults.log_every=1", "defaults.validate_every=15", "defaults.checkpoint_every=15")

PARTITIONS = (
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    "PartitionName=gentle Nodes=ALL PriorityTier=1 GraceTime=60 State=UP",
    "PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP",
)


def test_jobs_of_higher_priority_take_the_nodes_and_change_no_number(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    """Of one run the partition has no grace time (SIGTERM, then KillWait), of the other it has (the signal of --signal
    first). Neither may be lost even once (`retries=0`)."""
    runs = [run.run_dir for run in plan_tiny(*STEPS, "grid.seed=[0, 1]", name="urgent")]
    abrupt, gentle = runs
    reference = train_here(abrupt, tmp_path / "reference")
    lab = start_lab("--nodes", "2", "--cpus", "1", *(word for line in PARTITIONS for word in ("--conf", line)))
    make_backend("partition: main\n", retries=0).submit([abrupt], None)
    make_backend("partition: gentle\n", retries=0).submit([gentle], None)
    with all_held_at(runs, 3):
        # Before its signals Slurm sends SIGCONT, so that the processes need not be let go.
        urgent = lab.run("sbatch", "--parsable", "-p", "urgent", "-N", "2", "--wrap", "sleep 1", "-o", "/dev/null")
        wait_until(lambda: read_ends(abrupt).all and read_ends(gentle).all)
    wait_until(lambda: lab.states()[urgent] == "COMPLETED")
    for run in runs:
        wait_for_result(run)
        ends = read_ends(run).all
        assert [end.cause for end in ends] == [Cause.PREEMPTED, Cause.DONE] and not COUNTED & {
            end.cause for end in ends
        }
        assert ends[0].step >= 3
    assert read_ends(gentle).all[0].message == "received SIGUSR1"
    assert_same_numbers(reference, abrupt)
