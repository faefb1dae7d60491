"""The two streams of a run's images, as its plan says: training batches from a step on, and what validation reads."""

from collections.abc import Iterable

from scaling.data.format.exclusion_list import HeldOut, hold_out, load_exclusion
from scaling.data.format.manifest import Manifest
from scaling.data.read.images.transforms import Augmentation
from scaling.data.read.loader import EvalLoader, TrainLoader
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.order import ORDER_VERSION
from scaling.data.select.permute import planned_permutation
from scaling.data.select.subset import select_subset
from scaling.errors import UserError
from scaling.evals.runner import open_pixels
from scaling.records.run_plan import RunPlan
from scaling.train.processes.node_memory import with_node_memory
from scaling.train.processes.process_group import Processes

VALIDATION_BATCH = 256


def train_loader(
    plan: RunPlan, processes: Processes, *, step: int, known_corrupt: Iterable[tuple[int, int]]
) -> TrainLoader:
    """This process's share of the batches that follow `step`; UserError when the data is not what was planned."""
    if plan.order_version != ORDER_VERSION:
        raise UserError(
            f"the run was planned with version {plan.order_version} of the order of its data, and this code draws "
            f"version {ORDER_VERSION}; plan the study again, or train the run with the code that planned it"
        )
    source = open_pixels(plan.train)
    exclusion = _excluded(plan, source.manifest)
    if exclusion.digest != plan.subset.exclusion_digest:
        raise UserError(f"{plan.subset.exclude} has changed since the run was planned; plan the study again")
    subset = select_subset(source.manifest, plan.subset.fraction, plan.subset.seed, exclusion)
    assert subset.digest == plan.subset.digest, "the subset rule changed without a new order version"
    recipe = plan.recipe
    return TrainLoader(
        with_node_memory(source.manifest, processes),
        subset,
        seed=plan.seed,
        batch=plan.schedule.batch,
        image_size=plan.model.image_size,
        augment=Augmentation(recipe.augment, recipe.randaugment_layers, recipe.randaugment_magnitude, recipe.crop_from),
        rank=processes.rank,
        world=processes.world,
        threads=processes.loader_threads,
        processes=processes.decode_processes,
        start_position=step * plan.schedule.batch,
        max_corrupt=plan.engine.max_corrupt,
        known_corrupt=known_corrupt,
        permutation=planned_permutation(plan.input, plan.model.image_size),
    )


def validation_loader(plan: RunPlan, processes: Processes) -> EvalLoader:
    """This process's share of the held-out split, or of the training samples that are held out."""
    source = open_pixels(plan.val)
    return EvalLoader(
        source,
        batch=VALIDATION_BATCH,
        image_size=plan.model.image_size,
        transform=plan.val_view,
        rank=processes.rank,
        world=processes.world,
        threads=processes.loader_threads,
        processes=processes.decode_processes,
        permutation=planned_permutation(plan.input, plan.model.image_size),
        samples=None if plan.dev is None else _held_out(plan, source.manifest).positions,
    )


def _excluded(plan: RunPlan, manifest: Manifest) -> Exclusion:
    """The training samples that the run may not see."""
    if plan.dev is not None:
        return _held_out(plan, manifest).exclusion
    return load_exclusion(plan.subset.exclude, manifest) if plan.subset.exclude else NO_EXCLUSION


def _held_out(plan: RunPlan, manifest: Manifest) -> HeldOut:
    assert plan.dev is not None
    held_out = hold_out(manifest, plan.dev.num_samples, plan.dev.seed)
    assert held_out.exclusion.digest == plan.dev.digest, "the rule of held-out samples changed"
    return held_out
