"""The data of a fine-tuning run: training images with a part held out, or all of them; and how large its images are."""

import io
import statistics

from PIL import Image

from scaling.data.format.exclusion_list import hold_out
from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.subset import select_subset
from scaling.errors import UserError
from scaling.records.run_plan import DevPlan, SubsetPlan, content_digest

LOOKED_AT = 32
"""Images whose size is looked up."""


def part_held_out(manifest: Manifest, num_samples: int, seed: int) -> tuple[SubsetPlan, DevPlan]:
    """What is trained on, and what is held out of it to choose on: disjoint, together all samples."""
    if manifest.is_declared:
        held = content_digest({"declared": manifest.digest, "held_out": num_samples, "seed": seed})
        rest = manifest.num_samples - num_samples
        subset = SubsetPlan(fraction=1.0, seed=0, num_samples=rest, digest=held, exclusion_digest=held)
        return subset, DevPlan(num_samples=num_samples, seed=seed, digest=held)
    exclusion = hold_out(manifest, num_samples, seed).exclusion
    dev = DevPlan(num_samples=num_samples, seed=seed, digest=exclusion.digest)
    return all_but(manifest, exclusion), dev


def all_but(manifest: Manifest, exclusion: Exclusion = NO_EXCLUSION) -> SubsetPlan:
    """All samples that are not excluded."""
    subset = select_subset(manifest, 1.0, 0, exclusion)
    return SubsetPlan(
        fraction=1.0,
        seed=0,
        num_samples=subset.num_samples,
        digest=subset.digest,
        exclusion_digest=exclusion.digest,
    )


def median_area(manifest: Manifest, name: str) -> float:
    """Pixels of an image: the median over the first ones of the first shard, from their headers."""
    if manifest.is_declared:
        raise UserError(f"{name} is declared by count only, so the size of its images is not known; write image_area")
    shard = OpenShards(manifest, verify=False).get(0)
    areas = []
    for index in range(min(LOOKED_AT, len(shard))):
        try:
            with Image.open(io.BytesIO(shard.read_image(index))) as image:
                areas.append(image.width * image.height)
        except OSError:
            continue  # What cannot be decoded is reported when it is trained on.
    if not areas:
        raise UserError(f"{name}: none of its first {LOOKED_AT} images can be read; write image_area")
    return float(statistics.median(areas))
