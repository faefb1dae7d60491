"""A run's `permute` settings turned into the permutation that training and evaluation share.

A model without patches of its own has to be told which patch its pixels are permuted by; one that does not divide the
image is refused.
"""

from scaling.models.registry import patch_size_of
from scaling.records.run_plan import InputPlan
from scaling.spec.document import Document
from scaling.spec.settings import RunSettings


def plan_input(settings: RunSettings, image_size: int, document: Document) -> InputPlan:
    """The fixed permutation of a run's images of `image_size` pixels a side, drawn by the run's seed."""
    if settings.permute == "none":
        return InputPlan()
    if settings.permute == "global":
        return InputPlan(permute="global", seed=settings.seed)
    patch_size = settings.permute_patch_size or patch_size_of(settings.model)
    if patch_size is None:
        raise document.error(
            ("defaults", "permute_patch_size"),
            f"the setting is missing, and {settings.model} has no patches of its own for permute: "
            "patches_and_pixels; give the patch of the models it is compared with, for example 16",
        )
    if image_size % patch_size:
        raise document.error(
            ("defaults", "permute_patch_size"),
            f"{patch_size} does not divide the {image_size}-pixel images of {settings.model}; give one that does",
        )
    return InputPlan(permute="patches_and_pixels", patch_size=patch_size, seed=settings.seed)
