"""From a planned evaluation to its numbers; which evaluations there are stands in `scaling.evals.settings`.

An evaluator is a function of a model, the planned evaluation and its context; it returns plain metric
names, which are prefixed with the evaluation's name in the records.
"""

import importlib
from dataclasses import dataclass
from typing import Protocol

import torch

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.errors import UserError
from scaling.evals.settings import EVALUATIONS
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import UNPERMUTED, EvalPlan, InputPlan, SourcePlan


class Processes(Protocol):
    """Those that compute one evaluation together."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Tensors of one shape, on the processes' device, from all of them in the order of their ranks."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """A process without partners."""

    rank: int = 0
    world: int = 1

    def gather(self, values: torch.Tensor) -> list[torch.Tensor]:
        return [values]


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """Where an evaluation runs, with whom, and on what kind of input."""

    device: torch.device
    precision: str
    image_size: int
    loader_threads: int
    input: InputPlan = UNPERMUTED
    processes: Processes = Alone()
    decode_processes: DecodeProcesses | None = None
    """Those that have the loader's threads, where it is not this process itself."""

    @property
    def is_first(self) -> bool:
        """Whether this process's metrics are the ones that count."""
        return self.processes.rank == 0

    def gather_rows(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """All `total` rows in their order, of which process r of R brings every R-th; on the CPU."""
        world = self.processes.world
        if world == 1:
            return rows.cpu()
        padded = rows.new_zeros((-(-total // world), *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = rows.to(self.device)
        whole = torch.empty((total, *rows.shape[1:]), dtype=rows.dtype)
        for rank, part in enumerate(self.processes.gather(padded)):
            whole[rank::world] = part[: len(range(rank, total, world))].cpu()
        return whole


class Evaluator(Protocol):
    """A shared one is called by all processes of `where`, and only the first one's metrics count."""

    def __call__(self, model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]: ...


def run_evaluation(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """Metrics of one evaluation, named `<evaluation>/<metric>`."""
    if plan.by == "runs":
        raise UserError(
            f"{plan.name}: {plan.kind} is done by further runs, which are recorded; leave out --no-record, or write it "
            "into evals of the sweep and launch that"
        )
    module, _, name = EVALUATIONS[plan.kind].function.partition(":")
    evaluate: Evaluator = getattr(importlib.import_module(module), name)
    model.eval()
    return {f"{plan.name}/{metric}": value for metric, value in evaluate(model, plan, where).items()}


def open_pixels(plan: SourcePlan) -> PixelSource:
    """The data set of a plan, refused when its content is no longer what was planned."""
    manifest = load_manifest(plan.manifest, plan.access)
    if manifest.digest != plan.digest:
        raise UserError(
            f"{plan.manifest} has changed since the run was planned (digest {manifest.digest[:12]}, planned "
            f"{plan.digest[:12]}); plan the study again with scaling.launch"
        )
    return PixelSource(manifest)
