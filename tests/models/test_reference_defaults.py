"""Every place where the reference code differs from timm's default, in both settings."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.init import sine_cosine_table
from scaling.models.networks.vision_model import VisionModel
from scaling.models.weights.files import load_weights

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
# Flax's LeCun normal is cut at two standard deviations and rescaled, so its largest value is 2 / 0.8796 deviations.
CUT = 2 / 0.87962566103423978


def build(name: str, **keywords) -> VisionModel:
    torch.manual_seed(0)
    return build_model(name, num_classes=10, image_size=32, **keywords).eval()


def is_lecun_normal(weight: torch.Tensor) -> bool:
    deviation = weight[0].numel() ** -0.5
    largest = weight.abs().max().item()
    return abs(weight.std().item() / deviation - 1) < 0.05 and 0.8 * CUT < largest / deviation <= CUT * 1.0001


def is_xavier_uniform(weight: torch.Tensor) -> bool:
    bound = math.sqrt(6 / sum(weight.shape))
    return 0.98 * bound < weight.abs().max().item() <= bound


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "mixer-conv-laptop-32px", "vit-laptop-32px"])
@pytest.mark.parametrize("options", [{}, {"gelu": "exact"}])
def test_gelu(name: str, options: dict[str, object]) -> None:
    """The MLPs' activation is 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), or 0.5 x (1 + erf(x/sqrt 2))."""
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    exact = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    expected = exact if options else tanh
    activations = [module for key, module in build(name, options=options).named_modules() if key.endswith(".act")]
    activations = [module for module in activations if not isinstance(module, nn.Tanh)]
    assert len(activations) == (2 if name.startswith("vit") else 4)
    for activation in activations:
        assert torch.allclose(activation(x), expected, rtol=0, atol=1e-12)


def test_mixer_init() -> None:
    for layer in build("mixer-laptop-32px").body.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert is_lecun_normal(layer.weight)
            assert not layer.bias.any()
    for layer in build("mixer-laptop-32px", options={"init": "timm"}).body.modules():
        if isinstance(layer, nn.Linear):
            assert is_xavier_uniform(layer.weight)
            assert 0 < layer.bias.abs().max() < 1e-5


def test_vit_init() -> None:
    body = build("vit-laptop-32px").body
    assert is_lecun_normal(body.patch_embed.proj.weight)
    assert not body.cls_token.any()
    assert body.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    for block in body.blocks:
        assert all(is_xavier_uniform(kernel) for kernel in block.attn.qkv.weight.chunk(3))
        assert all(is_xavier_uniform(layer.weight) for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2))
        assert not block.attn.qkv.bias.any() and not block.attn.proj.bias.any()
        assert 0 < block.mlp.fc1.bias.abs().max() < 1e-5
    for layer in build("vit-laptop-32px", options={"init": "timm"}).body.blocks.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_positions_start_at_the_waves_of_the_plain_vit_baselines() -> None:
    """Against `posemb_sincos_2d` of big_vision's `models/vit.py`, written out in numpy."""
    body = build("vit-laptop-32px", options={"position_init": "sincos2d"}).body
    y, x = np.mgrid[:4, :4]
    omega = 1.0 / 10_000.0 ** (np.arange(96 // 4) / (96 // 4 - 1))
    by_y, by_x = np.einsum("m,d->md", y.flatten(), omega), np.einsum("m,d->md", x.flatten(), omega)
    expected = np.concatenate([np.sin(by_x), np.cos(by_x), np.sin(by_y), np.cos(by_y)], axis=1)
    np.testing.assert_allclose(body.pos_embed[0, 1:].detach(), expected, atol=1e-6)
    assert not body.pos_embed[0, 0].any() and body.pos_embed.requires_grad
    assert sine_cosine_table(2, 3, 8).shape == (6, 8)
    with pytest.raises(UserError, match="multiple of 4, at least 8, not 6"):
        sine_cosine_table(2, 2, 6)


def test_bit_init() -> None:
    reference = build("bit-laptop-32px").body
    by_timm = build("bit-laptop-32px", options={"init": "timm"}).body
    for layer, timm_layer in zip(reference.modules(), by_timm.modules(), strict=True):
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:  # enough draws for 5 %
            assert is_lecun_normal(layer.weight)
            fan_out = timm_layer.weight[:, 0].numel()
            assert timm_layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px", "mixer-conv-laptop-32px"])
def test_classifier_starts_at_zero_with_the_given_bias(name: str) -> None:
    model = build(name, head_bias=-10.0)
    assert torch.equal(model(IMAGES), torch.full((2, 10), -10.0))


@pytest.mark.parametrize(
    ("name", "deviation"), [("vit-laptop-32px", 0.02), ("bit-laptop-32px", 0.01), ("mixer-laptop-32px", 0.0)]
)
def test_classifier_as_timm_starts_it(name: str, deviation: float) -> None:
    weight = build(name, options={"head_init": "timm"}).head.weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.1)


def drop_rates(model: VisionModel) -> list[float]:
    """One rate for each branch that can be dropped, in the order of depth."""
    names = ("drop_path", "drop_path1", "drop_path2")
    paths = [module for key, module in model.body.named_modules() if key.rpartition(".")[2] in names]
    return [getattr(path, "drop_prob", 0.0) for path in paths]


@pytest.mark.parametrize(
    ("name", "drop_path", "expected"),
    [
        ("mixer-laptop-64px", 0.3, [0.0, 0.1, 0.2, 0.3]),
        ("mixer-conv-laptop-64px", 0.3, [0.0, 0.1, 0.2, 0.3]),
        ("vit-laptop-64px", 0.3, [0.0, 0.0, 0.15, 0.15, 0.3, 0.3]),
        ("bit-laptop-32px", 0.4, [0.0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_stochastic_depth_rises_linearly(name: str, drop_path: float, expected: list[float]) -> None:
    assert drop_rates(build(name, drop_path=drop_path)) == pytest.approx(expected)


def test_stochastic_depth_as_timm_sets_it() -> None:
    model = build("mixer-laptop-64px", drop_path=0.3, options={"drop_path_rule": "constant"})
    assert drop_rates(model) == [0.3] * 4


@pytest.mark.parametrize(("rescale", "kept"), [(False, 1.0), (True, 2.0)])
def test_kept_branches_are_rescaled_only_on_request(rescale: bool, kept: float) -> None:
    model = build("mixer-laptop-32px", drop_path=0.5, options={"drop_path_rescale": rescale}).train()
    branch = model.body.blocks[-1].drop_path(torch.ones(64, 1, 1))
    assert set(branch.flatten().tolist()) == {0.0, kept}


def test_nothing_is_dropped_in_evaluation() -> None:
    plain, dropping = (
        build("mixer-laptop-32px"),
        build("mixer-laptop-32px", drop_path=0.9, options={"dropout": 0.9}),
    )
    assert torch.equal(plain.features(IMAGES), dropping.features(IMAGES))
    assert not torch.equal(plain.features(IMAGES), dropping.train().features(IMAGES))


def test_vit_has_a_tanh_layer_upstream() -> None:
    model = build("vit-laptop-32px")
    pooled = model.body(IMAGES)
    expected = torch.tanh(pooled @ model.pre_logits.fc.weight.T + model.pre_logits.fc.bias)
    assert torch.allclose(model.features(IMAGES), expected, rtol=0, atol=1e-6)
    assert is_lecun_normal(model.pre_logits.fc.weight) and not model.pre_logits.fc.bias.any()


def test_vit_without_it() -> None:
    model = build("vit-laptop-32px", options={"pre_logits": "none"})
    assert torch.equal(model.features(IMAGES), model.body(IMAGES))
    assert model.num_params == model.num_body_params + 10 * 96 + 10


@pytest.mark.parametrize(
    ("name", "timm_name", "image_size", "options"),
    [
        ("mixer-s/32", "mixer_s32_224", 224, {"gelu": "exact"}),
        ("vit-ti/16", "vit_tiny_patch16_224", 224, {"gelu": "exact", "pre_logits": "none"}),
        ("bit-r50x1", "resnetv2_50x1_bit", 64, {"conv_eps": 1e-8}),
    ],
)
def test_with_timms_settings_and_weights_of_its_hub_we_are_timms_model(
    name: str, timm_name: str, image_size: int, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(timm_name, num_classes=10).eval()
    nn.init.normal_(theirs.get_classifier().weight)
    images = torch.randn(2, 3, image_size, image_size)
    ours = build_model(name, num_classes=10, image_size=image_size, options=options).eval()
    monkeypatch.setattr(timm, "create_model", lambda requested, pretrained: theirs if pretrained else None)
    load_weights(ours, f"timm:{timm_name}")
    expected = theirs(images)
    assert torch.allclose(ours(images), expected, rtol=1e-4, atol=1e-4)
    # Only timm's settings do it: the differences that the options remove are larger than the tolerance.
    if "gelu" in options:
        reference = build_model(name, num_classes=10, image_size=image_size, options=options | {"gelu": "tanh"})
        reference.load_state_dict(ours.state_dict())
        assert not torch.allclose(reference.eval()(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px"])
def test_the_seed_decides_the_weights(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(1)
    other = build_model(name, num_classes=10, image_size=32).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("timm_name", "image_size", "num_features"),
    [("resnet18", 32, 512), ("vit_tiny_patch16_224", 48, 192), ("mobilenetv3_small_050", 64, 1024)],
)
def test_any_model_of_timm(timm_name: str, image_size: int, num_features: int) -> None:
    torch.manual_seed(0)
    model = build_model(f"timm:{timm_name}", num_classes=7, image_size=image_size, head_bias=-2.0, drop_path=0.1)
    images = torch.randn(2, 3, image_size, image_size)
    assert model.features(images).shape == (2, num_features) == (2, model.num_features)
    assert torch.equal(model(images), torch.full((2, 7), -2.0))
