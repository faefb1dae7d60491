"""Who a process is, from the variables that torchrun, srun, Open MPI and Ray really set."""

import pytest

from scaling.errors import UserError
from scaling.train.processes.placement import FIRST_PORT, NUM_PORTS, find_placement, first_host

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "10.1.2.3",
    "MASTER_PORT": "29400",
}

SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "no-such-host[3-4]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_LAUNCH_NODE_IPADDR": "10.1.2.3",
}

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "MASTER_ADDR": "10.1.2.3",
    "PMIX_NAMESPACE": "prterun-node-17@1",
}

RAY_TRAIN = {name: TORCHRUN[name] for name in TORCHRUN if name != "GROUP_RANK"} | {"NODE_RANK": "1"}


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN, OPEN_MPI, RAY_TRAIN], ids=["torchrun", "srun", "mpi", "ray"])
def test_every_launcher_describes_the_same_process(environment: dict[str, str]) -> None:
    found = find_placement(environment)
    assert (found.rank, found.world, found.local_rank, found.local_world) == (5, 8, 1, 4)
    assert found.master_address == "10.1.2.3"
    assert 1024 < found.master_port < 32_768
    assert found.environment()["RANK"] == "5"


def test_all_processes_of_a_step_name_the_same_port_and_two_steps_different_ones() -> None:
    ports = {find_placement({**SRUN, "SLURM_PROCID": str(rank)}).master_port for rank in range(8)}
    assert len(ports) == 1
    assert find_placement({**SRUN, "SLURM_STEP_ID": "3"}).master_port not in ports
    assert all(FIRST_PORT <= port < FIRST_PORT + NUM_PORTS for port in ports)


def test_two_mpiruns_of_a_node_name_different_ports() -> None:
    """Also where their numbers have the same digits."""
    spaces = [f"prterun-node-{number}@1" for number in (17, 71, 107, 170)]
    assert len({find_placement({**OPEN_MPI, "PMIX_NAMESPACE": space}).master_port for space in spaces}) == len(spaces)


def test_an_empty_environment_is_a_single_process() -> None:
    found = find_placement({})
    assert (found.rank, found.world, found.local_rank) == (0, 1, 0)


def test_a_batch_script_outside_of_a_step_is_a_single_process() -> None:
    """sbatch sets the number of tasks for the steps that the script will start."""
    batch = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    assert find_placement(batch).world == 1


def test_what_torch_reads_outweighs_the_scheduler() -> None:
    assert find_placement({**SRUN, **TORCHRUN, "WORLD_SIZE": "6"}).world == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": "8"}, "rank 8 of 8"),
        ({"WORLD_SIZE": "eight"}, "WORLD_SIZE is 'eight'"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"MASTER_PORT": ""}, "without MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_contradictions_are_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_placement({**TORCHRUN, **change})


def test_open_mpi_on_several_nodes_needs_to_be_told_the_first() -> None:
    environment = {name: value for name, value in OPEN_MPI.items() if name != "MASTER_ADDR"}
    with pytest.raises(UserError, match="-x MASTER_ADDR"):
        find_placement(environment)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("n03", "n03"), ("n[03-07,12],m1", "n03"), ("a1,b2", "a1"), ("rack[1,3]-x", "rack1-x"), ("", "")],
)
def test_the_first_host_of_a_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host
