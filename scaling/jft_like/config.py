"""The knobs of the JFT-like data set, what each imitates, and which values make sense.

The model is JFT-300M as the papers describe it: about 300 million images in 18,291 classes of a hierarchy, 375
million automatic labels (1.26 an image), about 20 % of them wrong, and a long tail (BiT, arXiv 1912.11370,
sections 3.1 and 5; ViT, arXiv 2010.11929, section 4.1). Sizes are scaled down so that a study fits on a laptop.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from scaling.errors import UserError
from scaling.jft_like.classes import NUM_COMBINATIONS

RECIPE_VERSION = 1
"""Raised whenever the same knobs would give other bytes."""


@dataclass(frozen=True, kw_only=True)
class JftLikeConfig:
    """A complete description of the data set: equal configs give equal files, byte for byte."""

    image_size: int = 32
    """Side of the square images in pixels; every size is rendered, none is scaled."""
    num_train: int = 8_000
    """Training images. JFT-300M: 302 million."""
    num_val: int = 1_000
    """Held-out upstream images, labelled by the same noisy process: the papers hold out part of their noisy
    data, so choosing weights by a clean split would use knowledge that they did not have."""
    num_leaf_classes: int = 48
    """Upstream classes that an image shows; hypernyms are added above them. JFT-300M: 18,291 with hypernyms."""
    num_unseen_classes: int = 20
    """Classes of the few-shot sets: combinations of the same visual factors that no upstream image shows."""
    support_per_class: int = 25
    """Clean images of each unseen class to draw shots from; big_vision evaluates 1, 5, 10 and 25 shots."""
    num_test: int = 2_000
    """Clean images of unseen classes to score on, balanced over classes."""
    labels_per_image: float = 1.26
    """Mean number of upstream labels of an image (BiT, section 3.1: 375 M labels on 300 M images)."""
    noise: float = 0.2
    """Share of upstream labels that are wrong (BiT, sections 3.1 and 5: about 20 %)."""
    zipf_exponent: float = 0.7
    """The r-th most frequent leaf has a share proportional to r**-exponent; 0 is balanced."""
    clutter: float = 0.3
    """Probability of each of four unlabelled distractors; half of it for one that may cover the object."""
    variation: float = 0.7
    """Width of pose, colour, light, background and camera variation, 0 to 1."""
    seed: int = 0
    """Of everything: classes, contents, labels, images."""
    shard_samples: int = 1_000
    """Samples of a shard. Samples are in random order, so a prefix of the shards is a fair sample."""
    image_format: Literal["jpg", "png"] = "jpg"
    """`jpg` at quality 95 without chroma subsampling, or lossless `png`."""

    def __post_init__(self) -> None:
        for name in ("num_train", "num_val", "num_test", "num_leaf_classes", "support_per_class", "shard_samples"):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        self._check("image_size", 8 <= self.image_size <= 4096, "must be between 8 and 4096 pixels")
        self._check("num_unseen_classes", self.num_unseen_classes >= 2, "must be at least 2")
        num_classes = self.num_leaf_classes + self.num_unseen_classes
        self._check(
            "num_leaf_classes",
            num_classes <= NUM_COMBINATIONS // 2,
            f"and num_unseen_classes may use half of the {NUM_COMBINATIONS} combinations of visual factors; ask for "
            "fewer",
        )
        self._check("labels_per_image", 1.0 <= self.labels_per_image <= 2.0, "must be between 1 and 2")
        self._check("zipf_exponent", 0.0 <= self.zipf_exponent <= 3.0, "must be between 0 and 3")
        for name in ("noise", "clutter", "variation"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "must be between 0 and 1")
        self._check("seed", 0 <= self.seed < 2**63, "must be 0 or a positive 63-bit integer")
        self._check("image_format", self.image_format in ("jpg", "png"), "must be 'jpg' or 'png'")

    def _check(self, name: str, is_good: bool, rule: str) -> None:
        if not is_good:
            raise UserError(f"{name} = {getattr(self, name)!r} of the JFT-like data set {rule}")

    def recipe(self) -> dict[str, Any]:
        """What the images and labels depend on, as JSON."""
        return {"made_by": "scaling.data make", "recipe_version": RECIPE_VERSION, **asdict(self)}

    def differences(self, recipe: dict[str, Any]) -> list[str]:
        """Where another `recipe` differs, as `name: theirs -> ours`."""
        ours = self.recipe()
        names = [*ours, *(name for name in recipe if name not in ours)]
        return [
            f"{name}: {recipe.get(name)} -> {ours.get(name)}" for name in names if recipe.get(name) != ours.get(name)
        ]
