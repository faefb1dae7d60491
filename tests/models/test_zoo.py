"""The tables against the papers: names, parameter counts, multiply-accumulates, training cost."""

import json
from dataclasses import asdict

import pytest
import torch

from scaling.models.__main__ import main
from scaling.models.build import build_model
from scaling.models.cost import count_cost
from scaling.models.registry import default_image_size, find_model, list_models
from scaling.models.shapes import BitShape, MixerShape, VitShape

# Exact counts without classifier and pre-logits layer, from timm's own definitions of the same networks.
BODY_PARAMS = {
    "mixer-s/32": 18_591_624,
    "mixer-s/16": 18_015_264,
    "mixer-b/32": 59_524_428,
    "mixer-b/16": 59_111_472,
    "mixer-l/32": 205_914_264,
    "mixer-l/16": 207_171_168,
    "mixer-h/14": 431_069_952,
    "vit-ti/16": 5_524_416,
    "vit-s/32": 22_493_952,
    "vit-s/16": 21_665_664,
    "vit-b/32": 87_455_232,
    "vit-b/16": 85_798_656,
    "vit-l/32": 305_510_400,
    "vit-l/16": 303_301_632,
    "vit-h/14": 630_764_800,
    "bit-r50x1": 23_500_352,
    "bit-r50x2": 93_891_712,
    "bit-r50x3": 211_174_080,
    "bit-r101x1": 42_492_480,
    "bit-r101x3": 381_789_888,
    "bit-r152x1": 58_136_128,
    "bit-r152x2": 232_238_208,
    "bit-r152x4": 928_340_224,
    "bit-r200x3": 562_488_000,
}

# Figure 4 of the ViT paper has one more model, for which no count is printed.
PAPER_MODELS = {*BODY_PARAMS, "vit-b-half/32"}

# 10^18 FLOPs of pre-training on JFT-300M, ViT paper, Table 6.
EXAFLOPS_7_EPOCHS = {"vit-b/32": 55, "vit-b/16": 224, "vit-l/32": 196, "vit-l/16": 783}
EXAFLOPS_14_EPOCHS = {"vit-l/16": 1567, "vit-h/14": 4262}
JFT_IMAGES = 302.0e6


def build_on_meta(name: str, **options: object):
    with torch.device("meta"):
        return build_model(name, num_classes=1000, image_size=default_image_size(name), options=options)


def test_lists_the_papers_models_and_marks_the_others() -> None:
    others = {name for name in list_models() if name not in PAPER_MODELS}
    assert set(list_models()) > PAPER_MODELS
    assert all("laptop" in name or name.startswith("mixer-conv-") for name in others)
    for family in ("mixer", "vit", "bit"):
        assert {f"{family}-laptop-32px", f"{family}-laptop-64px"} <= others


@pytest.mark.parametrize("name", sorted(BODY_PARAMS))
def test_parameters_are_exactly_the_published_network(name: str) -> None:
    assert build_on_meta(name).num_body_params == BODY_PARAMS[name]


@pytest.mark.parametrize("name", [name for name in list_models() if name.startswith("mixer")])
def test_mixer_parameters_have_a_closed_form(name: str) -> None:
    shape = find_model(name)[1].shape
    num_tokens = (default_image_size(name) // shape.patch_size) ** 2
    width, tokens, channels = shape.hidden_dim, shape.token_mlp_dim, shape.channel_mlp_dim
    token_mlp = 2 * num_tokens * tokens + tokens + num_tokens
    channel_mlp = 2 * width * channels + channels + width
    stem_and_norm = 3 * shape.patch_size**2 * width + width + 2 * width
    layers = shape.num_layers * (token_mlp + channel_mlp + 4 * width)
    assert build_on_meta(name).num_body_params == layers + stem_and_norm


@pytest.mark.parametrize("name", [name for name in list_models() if find_model(name)[1].published_params_millions])
def test_parameters_round_to_the_printed_number(name: str) -> None:
    """ViT's table has one number for each size, that of patch 16 (B), 32 (L) and 14, with the tanh layer."""
    model = build_on_meta(name)
    count = model.num_body_params + sum(parameter.numel() for parameter in model.pre_logits.parameters())
    other_patch_size = name in ("vit-b/32", "vit-l/16")
    printed = find_model(name)[1].published_params_millions
    assert abs(count / 1e6 - printed) < (0.03 * printed if other_patch_size else 0.5)


def multiply_accumulates(name: str) -> int:
    """Closed form of the products of one forward pass without classifier, from the shapes alone."""
    shape, size = find_model(name)[1].shape, default_image_size(name)
    if isinstance(shape, BitShape):
        return bit_multiply_accumulates(shape, size)
    num_patches, width = (size // shape.patch_size) ** 2, shape.hidden_dim
    stem = num_patches * 3 * shape.patch_size**2 * width
    if isinstance(shape, MixerShape):
        token_mixing = 2 * num_patches * shape.token_mlp_dim * width
        channel_mixing = 2 * num_patches * shape.channel_mlp_dim * width
        return stem + shape.num_layers * (token_mixing + channel_mixing)
    assert isinstance(shape, VitShape)
    num_tokens = num_patches + 1
    layer = num_tokens * 12 * width**2 + 2 * num_tokens**2 * width
    return stem + shape.num_layers * layer + width**2


def bit_multiply_accumulates(shape: BitShape, size: int) -> int:
    stem_channels = shape.channels[0] // 4 * shape.width_factor
    size //= 2
    total = size**2 * 7 * 7 * 3 * stem_channels
    size //= 2
    inputs = stem_channels
    for stage, (num_blocks, channels) in enumerate(zip(shape.blocks, shape.channels, strict=True)):
        outputs = channels * shape.width_factor
        middle = outputs // 4
        for block in range(num_blocks):
            size_in = size
            if block == 0 and stage > 0:
                size //= 2
            total += size_in**2 * inputs * middle + size**2 * (9 * middle**2 + middle * outputs)
            total += size**2 * inputs * outputs if block == 0 else 0
            inputs = outputs
    return total


def stem_multiply_accumulates(name: str) -> int:
    shape, size = find_model(name)[1].shape, default_image_size(name)
    if isinstance(shape, BitShape):
        return (size // 2) ** 2 * 7 * 7 * 3 * (shape.channels[0] // 4 * shape.width_factor)
    return size**2 * 3 * shape.hidden_dim


@pytest.mark.parametrize(
    "name",
    ["mixer-s/32", "mixer-b/16", "mixer-conv-s/16", "vit-s/16", "vit-b/32", "bit-r50x1", "bit-laptop-64px"],
)
def test_counted_flops_are_those_of_the_closed_form(name: str) -> None:
    """Backward takes two products for each of forward, but computes no gradient of the image."""
    cost = count_cost(name, num_classes=1000, image_size=default_image_size(name))
    num_features = build_on_meta(name).num_features
    assert cost.flops_forward_per_image == 2 * (multiply_accumulates(name) + 1000 * num_features)
    assert cost.flops_train_per_image == 3 * cost.flops_forward_per_image - 2 * stem_multiply_accumulates(name)


# Multiply-accumulates of one forward pass at 224 px, in 10^9; derived from the papers' shapes.
GMACS = {
    "mixer-s/32": 1.00,
    "mixer-s/16": 3.78,
    "mixer-b/32": 3.24,
    "mixer-b/16": 12.60,
    "mixer-l/32": 11.25,
    "mixer-l/16": 44.55,
    "mixer-h/14": 120.99,
    "vit-ti/16": 1.25,
    "vit-s/32": 1.14,
    "vit-s/16": 4.60,
    "vit-b/32": 4.41,
    "vit-b/16": 17.56,
    "vit-l/32": 15.38,
    "vit-l/16": 61.55,
    "vit-h/14": 167.29,
}


@pytest.mark.parametrize("name", sorted(GMACS))
def test_forward_gmacs_within_one_per_cent(name: str) -> None:
    assert multiply_accumulates(name) / 1e9 == pytest.approx(GMACS[name], rel=0.01)


@pytest.mark.parametrize(
    ("epochs", "name", "exaflops"),
    [(7, *item) for item in EXAFLOPS_7_EPOCHS.items()] + [(14, *item) for item in EXAFLOPS_14_EPOCHS.items()],
)
def test_pretraining_cost_is_that_of_table_6(epochs: int, name: str, exaflops: float) -> None:
    counted = 6 * multiply_accumulates(name) * epochs * JFT_IMAGES / 1e18
    assert counted == pytest.approx(exaflops, rel=0.02)


def test_json_names_method_versions_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixer-laptop-32px", "timm:resnet18", "--image-size", "32", "--num-classes", "10", "--json"]) == 0
    mixer, resnet = json.loads(capsys.readouterr().out)
    assert (mixer["family"], mixer["num_classes"], mixer["image_size"]) == ("mixer", 10, 32)
    assert mixer["shape"] == asdict(find_model("mixer-laptop-32px")[1].shape)
    assert mixer["num_params"] == mixer["num_params_body"] + 10 * 96 + 10
    assert mixer["torch_version"] == torch.__version__
    assert "flop_counter" in mixer["method"] and "not a published model" in mixer["source"]
    # torchvision's table gives 11,689,512 for ResNet-18, of which 513,000 are its classifier.
    assert (resnet["family"], resnet["num_params_body"]) == ("timm", 11_689_512 - 513_000)


def test_table_shows_published_beside_computed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixer-s/32"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mixer-s/32"))
    assert row.split()[1:5] == ["224", "18.59", "19", "1.002"]


def test_counting_allocates_no_weights() -> None:
    parameters = list(build_on_meta("mixer-h/14").parameters())
    assert all(parameter.is_meta for parameter in parameters)
