"""The tables of the papers as data, and small variants for laptops.

Shapes are those of Mixer Table 1, ViT Table 1 (Ti and S as in google-research/vision_transformer) and the block
counts of google-research/big_transfer. A `laptop` model is ours, made so that a whole study trains in minutes on
a CPU; no paper knows it. `mixer-conv-*` is Mixer written with convolutions (section 1 of its paper).
"""

from scaling.models.family import Family, ModelSpec
from scaling.models.options import BitOptions, MixerConvOptions, MixerOptions, VitOptions
from scaling.models.shapes import BitShape, MixerShape, VitShape

PAPER_IMAGE_SIZE = 224

MIXER_SOURCE = "Mixer (arXiv 2105.01601) Table 1: parameters without head"
VIT_SOURCE = "ViT (arXiv 2010.11929) Table 1: one number for all patch sizes, tanh layer included"
VIT_SMALL_SOURCE = "google-research/vision_transformer, configs/models.py"
VIT_HALF_SOURCE = "ViT (arXiv 2010.11929) Figure 4: B with hidden sizes halved; heads not stated, B's 12 kept"
BIT_SOURCE = "BiT (arXiv 1912.11370); blocks per stage as in google-research/big_transfer"
LAPTOP_SOURCE = "this project's, for trials on a CPU; not a published model"

# Below, *_MILLIONS holds parameters as printed, None where nothing is printed.
# Layers and hidden width; D_S = C/2 and D_C = 4C in every size.
MIXER_SIZES = {"s": (8, 512), "b": (12, 768), "l": (24, 1024), "h": (32, 1280)}
MIXER_MILLIONS = {"s/32": 19, "s/16": 18, "b/32": 60, "b/16": 59, "l/32": 206, "l/16": 207, "h/14": 431}

# Layers, hidden width, heads.
VIT_SIZES = {
    "ti": (12, 192, 3),
    "s": (12, 384, 6),
    "b-half": (12, 384, 12),
    "b": (12, 768, 12),
    "l": (24, 1024, 16),
    "h": (32, 1280, 16),
}
VIT_MILLIONS = {
    **dict.fromkeys(("ti/16", "s/32", "s/16", "b-half/32")),
    "b/32": 86,
    "b/16": 86,
    "l/32": 307,
    "l/16": 307,
    "h/14": 632,
}

BIT_BLOCKS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3), "r152": (3, 8, 36, 3), "r200": (3, 24, 36, 3)}
BIT_MILLIONS = {
    **dict.fromkeys(("r50x1", "r50x2", "r101x1", "r152x1", "r152x2", "r50x3", "r101x3", "r200x3")),
    "r152x4": 928,
}


def _mixer_shape(patch_size: int, num_layers: int, width: int) -> MixerShape:
    return MixerShape(
        patch_size=patch_size,
        num_layers=num_layers,
        hidden_dim=width,
        token_mlp_dim=width // 2,
        channel_mlp_dim=4 * width,
    )


def _vit_shape(patch_size: int, num_layers: int, width: int, num_heads: int) -> VitShape:
    return VitShape(patch_size=patch_size, num_layers=num_layers, hidden_dim=width, num_heads=num_heads)


def _split(size: str) -> tuple[str, int]:
    """`b/32` is size b with patches of 32 pixels."""
    letter, patch = size.split("/")
    return letter, int(patch)


def _mixers(prefix: str) -> tuple[ModelSpec, ...]:
    papers = []
    for size, millions in MIXER_MILLIONS.items():
        letter, patch_size = _split(size)
        shape = _mixer_shape(patch_size, *MIXER_SIZES[letter])
        papers.append(_paper(f"{prefix}-{size}", shape, MIXER_SOURCE, millions))
    return (
        *papers,
        _laptop(prefix, 32, _mixer_shape(8, 2, 96)),
        _laptop(prefix, 64, _mixer_shape(8, 4, 96)),
    )


def _vits() -> tuple[ModelSpec, ...]:
    papers = []
    for size, millions in VIT_MILLIONS.items():
        letter, patch_size = _split(size)
        source = {"ti": VIT_SMALL_SOURCE, "s": VIT_SMALL_SOURCE, "b-half": VIT_HALF_SOURCE}.get(letter, VIT_SOURCE)
        papers.append(_paper(f"vit-{size}", _vit_shape(patch_size, *VIT_SIZES[letter]), source, millions))
    return (
        *papers,
        _laptop("vit", 32, _vit_shape(8, 2, 96, 3)),
        _laptop("vit", 32, _vit_shape(4, 1, 64, 4), "-patch4"),
        _laptop("vit", 64, _vit_shape(8, 3, 96, 3)),
    )


def _bits() -> tuple[ModelSpec, ...]:
    papers = []
    for size, millions in BIT_MILLIONS.items():
        depth, width = size.split("x")
        shape = BitShape(blocks=BIT_BLOCKS[depth], width_factor=int(width))
        papers.append(_paper(f"bit-{size}", shape, BIT_SOURCE, millions))
    return (
        *papers,
        _laptop("bit", 32, BitShape(blocks=(1, 2, 2), channels=(64, 128, 256), num_groups=8)),
        _laptop("bit", 64, BitShape(blocks=(1, 2, 2, 1), channels=(96, 192, 384, 768), num_groups=8)),
    )


def _paper(name: str, shape: MixerShape | VitShape | BitShape, source: str, millions: float | None) -> ModelSpec:
    return ModelSpec(
        name=name,
        image_size=PAPER_IMAGE_SIZE,
        shape=shape,
        source=source,
        published_params_millions=millions,
    )


def _laptop(prefix: str, image_size: int, shape: MixerShape | VitShape | BitShape, suffix: str = "") -> ModelSpec:
    name = f"{prefix}-laptop-{image_size}px{suffix}"
    return ModelSpec(name=name, image_size=image_size, shape=shape, source=LAPTOP_SOURCE)


PAPER_FAMILIES = (
    Family(name="mixer", builder="scaling.models.networks.mixer:build", models=_mixers("mixer"), options=MixerOptions),
    Family(name="vit", builder="scaling.models.networks.vit:build", models=_vits(), options=VitOptions),
    Family(name="bit", builder="scaling.models.networks.bit:build", models=_bits(), options=BitOptions),
    Family(
        name="mixer-conv",
        builder="scaling.models.networks.mixer_conv:build",
        models=_mixers("mixer-conv"),
        options=MixerConvOptions,
    ),
)
