"""Profiles: the shipped ones are valid, and a mistake in one is told with file, line, field and rule."""

from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.launch.backends.slurm.profile import Profile, load_profile
from scaling.launch.backends.slurm.shape import base_shape
from scaling.spec.launch_spec import LaunchSpec

PROFILES = sorted((Path(__file__).parents[4] / "slurm" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_shipped_profiles_are_valid(path: Path) -> None:
    assert load_profile(path).partition


def test_there_is_one_for_each_kind_of_node() -> None:
    assert {path.stem for path in PROFILES} >= {"a100", "h100", "cpu", "local"}


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("partition: gpu\ntiem: 8h\n", 2, ["tiem", "unknown key", "did you mean 'time'"]),
        ("gpus: h100:0\n", 1, ["gpus", "h100:8"]),
        ("gpus: [h100]\n", 1, ["gpus"]),
        ("tasks_per_node: zero\n", 1, ["tasks_per_node", "integer"]),
        ("cpus_per_task: 0\n", 1, ["cpus_per_task", "greater than 0"]),
        ("\nmemory_per_task: 64\n", 2, ["memory_per_task", "100G"]),
        ("time: 8x\n", 1, ["time", "8h"]),
        ("time: 5m\nsave_before: 10m\n", 1, ["save_before", "leaves nothing"]),
        ("modules: cuda\n", 1, ["modules", "tuple"]),
        ("environment: {NOT-A-NAME: 1}\n", 1, ["environment", "NOT-A-NAME"]),
        ("sbatch: {array: 0-9}\n", 1, ["sbatch", "array", "set by the launcher"]),
        ('partition: "gpu\\n#SBATCH --uid=0"\n', 1, ["partition", "one line"]),
        ("container: apptainer 'exec\n", 1, ["container", "split"]),
        ("partition: a\npartition: b\n", 2, ["partition", "written twice"]),
    ],
)
def test_a_mistake_is_told_with_file_and_line(text: str, line: int, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_profile(path)
    told = str(caught.value)
    assert told.startswith(f"{path}:{line}: ") and "\n" not in told, told
    for part in expected:
        assert part in told


@pytest.mark.parametrize("text", ["- partition: gpu\n", "", "gpu\n"])
def test_a_profile_that_is_no_mapping_is_told_what_one_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="a profile is a mapping such as 'partition: gpu'"):
        load_profile(path)


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file; name one of slurm/profiles"):
        load_profile(tmp_path / "none.yaml")


H100 = Profile(gpus="h100:8", cpus_per_task=12, memory_per_task="100G", time="8h")


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ({}, (1, 8, 12, 819200, 480)),
        ({"slurm": {"nodes": 2, "time": "90m"}}, (2, 8, 12, 819200, 90)),
        ({"devices_per_node": 2}, (1, 2, 12, 204800, 480)),
        ({"devices_per_run": 4, "nodes": 2}, (2, 2, 12, 204800, 480)),
        ({"cpus": 4, "memory": "1TB", "slurm": {"devices_per_node": 4}}, (1, 4, 4, 953675, 480)),
        ({"time": "30s", "slurm": {"time": "121m"}}, (1, 8, 12, 819200, 121)),
    ],
)
def test_a_run_takes_what_the_most_special_word_says(launch: dict, expected: tuple[int, ...]) -> None:
    shape = base_shape(LaunchSpec.model_validate(launch), H100)
    assert (shape.nodes, shape.tasks_per_node, shape.cpus_per_task, shape.memory_mib, shape.minutes) == expected


def test_more_devices_than_a_node_has_are_refused() -> None:
    with pytest.raises(UserError, match="wants 9 devices on each node, but the profile's nodes have 8 GPUs"):
        base_shape(LaunchSpec.model_validate({"slurm": {"devices_per_node": 9}}), H100)


def test_a_time_limit_that_leaves_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="leaves nothing to train"):
        base_shape(LaunchSpec.model_validate({"slurm": {"time": "2m"}}), H100)
