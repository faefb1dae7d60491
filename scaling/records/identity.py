"""Who a run is: a name a person can read and a hash of everything that can change its numbers.

`mixer-b32_030pct_s0-1f3a9c2e`: model, share of the training images, seed, then values on further axes, then
the first eight hex digits of the identity. The identity is SHA-256 over the canonical JSON of model, data
digests, input, subset, schedule, recipe and seed. Paths, devices, micro-batches, ZeRO stage, memory layout, activation
checkpointing, compilation, log and checkpoint intervals and the list of evaluations are not in it: they say where and
how a run is executed, and what is asked of it afterwards; how it is executed changes numbers by roundings. Devices and
micro-batch are in it where they change more: see `EnginePlan.batching_counts`.

Planning computes it, and whoever reads a plan computes it again: a plan whose numbers are not those of its name is
refused. So a field that joins the plan later is hashed only where it differs from what every earlier run did.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scaling.records.files import content_digest

if TYPE_CHECKING:
    from scaling.records.run_plan import RecipePlan, RunPlan


def identity_of(plan: "RunPlan") -> str:
    """SHA-256, in hex, of what a plan's content decides, whatever identity and name it bears.

    `validate_steps` counts because it decides which weights are kept; the order's version names the rule that turns a
    seed into a data order; the counted FLOPs and parameters follow from the model; of the engine counts how a batch is
    divided, where the model's numbers depend on that.
    """
    counted = {"num_params", "num_body_params", "flops_forward_per_image", "flops_train_per_image"}
    parts = {
        "model": plan.model.model_dump(exclude=counted),
        "train": plan.train.model_dump(exclude={"manifest", "access"}),
        "val": plan.val.model_dump(exclude={"manifest", "access"}),
        "input": plan.input.model_dump(),
        "subset": plan.subset.model_dump(exclude={"fraction", "exclude", "label_spread"}),
        "schedule": plan.schedule.model_dump(exclude={"protocol", "epochs"}),
        "recipe": plan.recipe.model_dump(exclude=_as_ever(plan.recipe)),
        "validate_steps": plan.intervals.validate_steps,
        "order_version": plan.order_version,
        "seed": plan.seed,
    }
    # What a run that starts from nothing does not have is left out, so that its identity is that of earlier versions.
    if plan.start is not None:
        parts["start"] = plan.start.sha256
    if plan.dev is not None:
        parts["dev"] = plan.dev.model_dump()
    if plan.val_view != "upstream":
        parts["val_view"] = plan.val_view
    if plan.engine.batching_counts != "no":
        parts["num_devices"] = plan.engine.num_devices
    if plan.engine.batching_counts == "micro_batch":
        parts["micro_batch"] = plan.engine.micro_batch
    return content_digest(parts)


def _as_ever(recipe: "RecipePlan") -> set[str]:
    """Later fields of the recipe that have the value of every run before them."""
    return {name for name, usual in (("crop_from", 0), ("exchange", "fp32")) if getattr(recipe, name) == usual}


def contradiction(plan: "RunPlan") -> str:
    """What in a plan does not follow from the rest of it, in words; empty for a plan that planning may have made."""
    identity = identity_of(plan)
    if identity != plan.identity:
        return f"identity is {plan.identity[:8]}, and by its content it is {identity[:8]}"
    beginning = run_name(plan.model.name, plan.subset.fraction, plan.seed, {}, "").removesuffix("-")
    if plan.start is not None:
        # Named after the run that it continues.
        beginning = plan.start.run_id.rpartition("-")[0]
    if not plan.run_id.startswith(beginning) or not plan.run_id.endswith(f"-{identity[:8]}"):
        return f"run_id is {plan.run_id}, and by its content it is {beginning}…-{identity[:8]}"
    epochs = plan.schedule.steps * plan.schedule.batch / plan.subset.num_samples
    if not math.isclose(plan.schedule.epochs, epochs, rel_tol=1e-9):
        return f"epochs is {plan.schedule.epochs:g}, and by steps, batch and images it is {epochs:g}"
    return ""


def run_name(model: str, fraction: float, seed: int, other_axes: Mapping[str, Any], identity: str) -> str:
    """The folder name of a run; `other_axes` are the study's axes besides model, fraction and seed."""
    extra = "".join(f"_{_slug(name.rpartition('.')[2])}{_slug(value)}" for name, value in other_axes.items())
    return f"{_slug(model)}_{_percent(fraction)}pct_s{seed}{extra[:80]}-{identity[:8]}"


def _percent(fraction: float) -> str:
    """Three digits so that folders sort by size: 003, 010, 100; `000.5` for half a percent."""
    percent = round(fraction * 100, 6)
    whole, _, rest = f"{percent:f}".rstrip("0").rstrip(".").partition(".")
    return whole.zfill(3) + (f".{rest}" if rest else "")


def _slug(value: Any) -> str:
    """The part of a value that a file name can hold: `mixer-b/32` becomes `mixer-b32`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return re.sub(r"[^A-Za-z0-9.+-]", "", str(value).replace("_", "-").replace(":", "-").replace("/", ""))
