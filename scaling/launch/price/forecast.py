"""What runs will cost: counted FLOPs and examples always, time only from runs that were measured.

The measure is training FLOPs per second of wall time, validation and waiting included, on one kind of device and with
one number of them. A run is predicted from runs of the same model and number of devices, then from the same model on
another number (in proportion), then from other models on that device by their FLOPs; never from another kind of device.
With no measurement there is no time, rather than a guess. Evaluations are predicted from what they took before.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_plan import EvalPlan, RunPlan

Model = tuple[str, int, str]
"""Name, image size and precision."""


def train_flops(plan: RunPlan) -> float:
    """Training FLOPs of the whole run: forward and backward of every example."""
    return plan.train_flops(plan.schedule.steps * plan.schedule.batch)


def papers_flops(plan: RunPlan) -> float:
    """Training FLOPs by the rule that reproduces ViT's Table 6 within 3 %: 6 x GMACs x images, that is three times the
    forward pass. It counts a gradient for the input of the first layer, which nobody computes."""
    return 3 * plan.model.flops_forward_per_image * plan.schedule.steps * plan.schedule.batch


def state_bytes(plan: RunPlan) -> float:
    """Memory of one device for fp32 weights, gradients and optimiser state; activations come on top.

    Adam keeps two moments per weight and SGD one momentum; ZeRO 1 divides that state over the devices, ZeRO 2 the
    gradients too (arXiv 1910.02054).
    """
    slots = 2 if plan.recipe.optimizer == "adam" else 1
    optimizer_share = plan.engine.num_devices if plan.engine.zero_stage >= 1 else 1
    gradient_share = plan.engine.num_devices if plan.engine.zero_stage >= 2 else 1
    return 4.0 * plan.model.num_params * (1 + 1 / gradient_share + slots / optimizer_share)


@dataclass(frozen=True, slots=True)
class Work:
    """What is left of one run."""

    plan: RunPlan
    share_left: float = 1.0
    """Of its steps."""
    evals_left: tuple[str, ...] | None = None
    """Names of the evaluations still to be done; None for all that are planned."""


class RateBook:
    """Observed rates by model, device and number of devices, and observed times of evaluations."""

    def __init__(self) -> None:
        self._rates: dict[tuple[Model, str, int], list[float]] = defaultdict(list)
        self._evals: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._devices: Counter[str] = Counter()

    def copy(self) -> Self:
        """An independent book with the same observations."""
        other = type(self)()
        for key, rates in self._rates.items():
            other._rates[key] = list(rates)
        for name, seconds in self._evals.items():
            other._evals[name] = list(seconds)
        other._devices = self._devices.copy()
        return other

    @property
    def device(self) -> str:
        """The kind of device that forecasts are for: the one with most observations; empty without any."""
        return max(self._devices, key=lambda name: (self._devices[name], name), default="")

    def knows(self, plan: RunPlan) -> bool:
        """Whether this very model was observed on so many devices of the kind that forecasts are for."""
        return bool(self._rates.get((_model(plan), self.device, plan.engine.num_devices)))

    def add(self, plan: RunPlan, *, device: str, num_devices: int, flops: float, seconds: float) -> None:
        """One observation: so many training FLOPs in so many seconds of wall time."""
        if seconds > 0 and flops > 0:
            self._rates[_model(plan), device, num_devices].append(flops / seconds)
            self._devices[device] += 1

    def add_result(self, plan: RunPlan, result: RunResult) -> None:
        """What a finished run took."""
        self.add(
            plan,
            device=result.device,
            num_devices=result.num_devices,
            flops=plan.train_flops(result.examples_seen),
            seconds=result.train_seconds + result.pause_seconds,
        )

    def add_evaluation(self, plan: RunPlan, record: Evaluation) -> None:
        """What an evaluation of a run took."""
        self._evals[record.digest, plan.model.name, record.device].append(record.seconds)

    def seconds(self, work: Work) -> float | None:
        """Predicted wall seconds of what is left of a run; None when nothing comparable was measured. Evaluations that
        were never measured count nothing, unless nothing else is left."""
        evals = [self._eval_seconds(work.plan, plan) for plan in self._evals_left(work)]
        known = sum(seconds for seconds in evals if seconds is not None)
        if work.share_left <= 0:
            return None if None in evals else known
        rate = self._rate(work.plan)
        return None if rate is None else train_flops(work.plan) * work.share_left / rate + known

    @staticmethod
    def _evals_left(work: Work) -> list[EvalPlan]:
        return [plan for plan in work.plan.evals if work.evals_left is None or plan.name in work.evals_left]

    def _eval_seconds(self, run: RunPlan, plan: EvalPlan) -> float | None:
        """Of one evaluation of this model, or of any model, on the kind of device that forecasts are for."""
        digest, device = plan.digest(), self.device
        own = self._evals.get((digest, run.model.name, device))
        if own:
            return statistics.median(own)
        others = [s for (d, _, place), seen in self._evals.items() if (d, place) == (digest, device) for s in seen]
        return statistics.median(others) if others else None

    def _rate(self, plan: RunPlan) -> float | None:
        """FLOPs per second of the whole run."""
        model, device, num_devices = _model(plan), self.device, plan.engine.num_devices
        own = self._rates.get((model, device, num_devices))
        if own:
            return statistics.median(own)
        same_model = [r / n for (m, d, n), rates in self._rates.items() if (m, d) == (model, device) for r in rates]
        any_model = [
            r / n for (m, d, n), rates in self._rates.items() if (m[2], d) == (model[2], device) for r in rates
        ]
        per_device = same_model or any_model
        return statistics.median(per_device) * num_devices if per_device else None


def remaining_seconds(rates: RateBook, waiting: Iterable[Work], running: Sequence[Work]) -> float | None:
    """Wall seconds until all is done, when as many runs proceed at a time as do now; None when a rate is missing."""
    lefts = [rates.seconds(work) for work in running]
    waits = [rates.seconds(work) for work in waiting]
    known = [seconds for seconds in (*lefts, *waits) if seconds is not None]
    if len(known) < len(lefts) + len(waits):
        return None
    if not known:
        return 0.0
    return max(sum(known) / max(1, len(running)), max(known))


def _model(plan: RunPlan) -> Model:
    return plan.model.name, plan.model.image_size, plan.recipe.precision
