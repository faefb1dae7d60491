"""One attempt at a run: a placement group, an actor beside each process, and how the processes ended."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scaling.launch.backends.ray.order import Order
from scaling.launch.backends.ray.rank import Place, Rank
from scaling.launch.backends.ray.shape import NODE_ID, Shape
from scaling.records.attempts.causes import Cause

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

PARTNER_SECONDS = 10.0
"""How long the other processes of a run may take to leave once one of them is lost."""

ANSWER_SECONDS = 30.0
"""How long one call of an actor may take before it is made again."""

NODE_SECONDS = 2.0
"""How long Ray may take to report a lost node after it has reported an actor that died with it."""

NODE_DIGITS = 12
"""Of a node id, in a run's records."""

LET_SAVE = {"RAY_kill_child_processes_on_worker_exit": "false"}
"""In the environment of a worker. Ray would kill the training process of a worker that ends; it shall save first."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the processes of an attempt ended."""

    code: int | None
    """The exit code that tells most; None when the actor beside the process was lost."""
    cause: Cause | None = None
    """What Ray knows beyond it."""
    message: str = ""


class Attempt:
    """The processes of one run, from their placement to their end; use `placed` to make one."""

    def __init__(self, order: Order, group: "PlacementGroup") -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._order, self._shape = order, order.shape
        actor: Any = ray.remote(Rank)
        self._ranks: list[Any] = [
            actor.options(
                num_cpus=self._shape.num_cpus,
                num_gpus=self._shape.num_gpus,
                resources=self._shape.resources or None,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=number // self._shape.processes_per_node
                ),
                runtime_env=None if order.is_embedded else {"env_vars": LET_SAVE},
            ).remote(order.run_dir)
            for number in range(self._shape.num_processes)
        ]
        self.places: list[Place] = []
        self._codes: dict[int, Ending] = {}
        """How processes ended, by rank, in the order seen."""
        self._first_loss: float | None = None

    def start(self) -> None:
        """Start training on every rank; RayError when an actor cannot be there."""
        import ray

        self.places = ray.get([rank.place.remote() for rank in self._ranks])
        blind = [place.address for place in self.places if not place.sees_run]
        if blind:
            told = f"node {blind[0]} does not see {self._order.run_dir}; put the study on storage that all nodes share"
            self._codes = dict.fromkeys(range(len(self._ranks)), Ending(None, Cause.MACHINE_TROUBLE, told))
            return
        port = ray.get(self._ranks[0].free_port.remote()) if len(self._ranks) > 1 else 0
        execution = replace(self._order.execution, threads=self._shape.threads)
        ray.get(
            [rank.start.remote(execution, self._variables(number, port)) for number, rank in enumerate(self._ranks)]
        )

    def poll(self) -> Ending | None:
        """None while it runs; then the ending that tells most: of the first process that ended with an error before its
        partners had to be ended, by rank, or that of the first process."""
        self._see()
        if self._first_loss is not None and time.monotonic() - self._first_loss > PARTNER_SECONDS:
            # One process is lost, so its partners wait in a collective that can never complete.
            self._call("kill")
            self._see()
        if len(self._codes) < len(self._ranks):
            return None
        lost = [ending for _, ending in sorted(self._codes.items()) if ending.code is None]
        failed = [ending for _, ending in sorted(self._codes.items()) if ending.code]
        return next(iter(lost + failed), self._codes[0])

    def leave(self) -> None:
        """Ask all processes to save a checkpoint and leave."""
        self._call("leave")

    def kill(self) -> None:
        """End all processes at once."""
        self._call("kill")

    def end(self) -> None:
        """Take the actors away; training that is still there is asked by the kernel to save and leave."""
        import ray

        for rank in self._ranks:
            ray.kill(rank)

    def _variables(self, number: int, port: int) -> dict[str, str]:
        """What the run's records and torch.distributed read. Without GPUs none shall be used."""
        shape = self._shape
        variables = {"SCALING_JOB": f"ray {self.places[0].node_id[:NODE_DIGITS]}"}
        if not shape.num_gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        if shape.num_processes > 1:
            variables |= {"RANK": str(number), "WORLD_SIZE": str(shape.num_processes)}
            variables |= {"LOCAL_RANK": str(number % shape.processes_per_node)}
            variables |= {"LOCAL_WORLD_SIZE": str(shape.processes_per_node)}
            variables |= {"MASTER_ADDR": self.places[0].address, "MASTER_PORT": str(port)}
        return variables

    def _open(self) -> list[int]:
        return [number for number in range(len(self._ranks)) if number not in self._codes]

    def _see(self) -> None:
        import ray

        asked = [(number, self._ranks[number].poll.remote()) for number in self._open()]
        for number, answer in asked:
            try:
                code = ray.get(answer, timeout=ANSWER_SECONDS)
            except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
                continue  # Ray itself says when the actor is lost.
            except ray.exceptions.RayActorError as error:
                self._codes[number] = Ending(None, message=str(error))
            else:
                if code is not None:
                    self._codes[number] = Ending(code)
            ending = self._codes.get(number)
            if ending is not None and ending.code != 0 and self._first_loss is None:
                self._first_loss = time.monotonic()

    def _call(self, method: str) -> None:
        """Call a method of every actor whose process has not ended; one that is lost cannot be reached."""
        import ray

        for answer in [getattr(self._ranks[number], method).remote() for number in self._open()]:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(answer, timeout=ANSWER_SECONDS)


def explain_loss(ending: Ending, node_ids: Sequence[str]) -> Ending:
    """An ending with what Ray says of these nodes (beginnings of their ids), when a worker there was lost."""
    import ray

    if ending.code is not None or ending.cause is not None:
        return ending
    deadline = time.monotonic() + NODE_SECONDS
    while time.monotonic() < deadline:
        for node in ray.nodes():
            if not node["Alive"] and node["NodeID"].startswith(tuple(node_ids)):
                message = f"node {node['NodeManagerAddress']} was lost"
                return replace(ending, cause=Cause.NODE_FAILED, message=message)
        time.sleep(0.25)
    if "memory pressure" in ending.message:
        return replace(ending, cause=Cause.OUT_OF_MEMORY, message="Ray ended it, as its node ran out of memory")
    return replace(ending, cause=Cause.LOST, message="the Ray worker beside it was lost")


@contextmanager
def placement(name: str, shape: Shape, avoid: Sequence[str]) -> Iterator["PlacementGroup"]:
    """Ask for the run's place in the cluster, away from the nodes `avoid`, and give it back at the end."""
    from ray.util.placement_group import placement_group, remove_placement_group

    labels = dict(shape.labels)
    if avoid:
        labels[NODE_ID] = f"!in({','.join(avoid)})"
    selector = {"bundle_label_selector": [labels] * shape.nodes} if labels else {}
    group = placement_group([shape.bundle()] * shape.nodes, strategy=shape.strategy, name=name, **selector)
    try:
        yield group
    finally:
        remove_placement_group(group)


def remove_leftover(name: str) -> None:
    """A placement that an earlier life of the same supervisor could not give back."""
    from ray.util.placement_group import get_placement_group, remove_placement_group

    with contextlib.suppress(ValueError):
        remove_placement_group(get_placement_group(name))
