"""A change of resolution against its definition, and the new head."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.mixer_conv import to_conv, to_linear
from scaling.models.networks.vision_model import VisionModel
from scaling.models.weights.transfer import block_order, change_resolution, replace_head

SIDE, WIDTH, HIDDEN = 4, 96, 48


def build(name: str, image_size: int = 32, **options: object) -> VisionModel:
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, image_size=image_size, options=options).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def spatial_blocks(tokens: torch.Tensor, factor: int) -> list[torch.Tensor]:
    """(B, C, tokens in raster order) cut into `factor` x `factor` pieces of the old grid, each in raster order."""
    grid = tokens.unflatten(-1, (factor * SIDE, factor * SIDE))
    rows = grid.split(SIDE, dim=-2)
    return [piece.flatten(-2) for row in rows for piece in row.split(SIDE, dim=-1)]


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("options", [{}, {"token_mlps": 4}])
def test_mixer_mixes_every_block_as_the_low_resolution_did(factor: int, options: dict[str, object]) -> None:
    low = build("mixer-laptop-32px", **options)
    high = change_resolution(low, 32 * factor)
    tokens = torch.randn(2, WIDTH, (SIDE * factor) ** 2, dtype=torch.float64)
    for low_block, high_block in zip(low.body.blocks, high.body.blocks, strict=True):
        assert high_block.mlp_tokens.fc1.weight.shape[-2:] == (factor**2 * HIDDEN, (factor * SIDE) ** 2)
        mixed = high_block.mlp_tokens(tokens)
        for block, expected in zip(spatial_blocks(mixed, factor), spatial_blocks(tokens, factor), strict=True):
            assert torch.allclose(block, low_block.mlp_tokens(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "mixer-conv-laptop-32px"])
def test_a_mosaic_of_images_has_their_mean_features(name: str) -> None:
    """Every block is treated as its own image, and the mean over all tokens is the mean of the blocks' means."""
    low = build(name)
    high = change_resolution(low, 64)
    pieces = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    top, bottom = torch.cat([pieces[0], pieces[1]], dim=-1), torch.cat([pieces[2], pieces[3]], dim=-1)
    mosaic = torch.cat([top, bottom], dim=-2)[None]
    assert torch.allclose(high.features(mosaic)[0], low.features(pieces).mean(0), rtol=0, atol=1e-12)
    assert torch.allclose(high(mosaic)[0], low(pieces).mean(0), rtol=0, atol=1e-11)


def test_both_mixer_forms_change_alike() -> None:
    linear, conv = build("mixer-laptop-32px"), build("mixer-conv-laptop-32px")
    conv.load_state_dict(to_conv(linear.state_dict(), SIDE))
    linear, conv = change_resolution(linear, 64), change_resolution(conv, 64)
    conv_state = to_linear(conv.state_dict())
    assert all(torch.equal(value, conv_state[name]) for name, value in linear.state_dict().items())


def test_two_steps_of_two_have_the_widths_of_one_step_of_four() -> None:
    twice = change_resolution(change_resolution(build("mixer-laptop-32px"), 64), 128)
    once = change_resolution(build("mixer-laptop-32px"), 128)
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    assert twice.num_params == once.num_params
    assert torch.allclose(twice(images), once(images), rtol=0, atol=1e-11)


def test_block_order_by_hand() -> None:
    assert block_order(2, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


@pytest.mark.parametrize("image_size", [16, 40, 48])
def test_mixer_refuses_other_factors(image_size: int) -> None:
    with pytest.raises(UserError, match=f"image_size = {image_size} .*multiple of 32"):
        change_resolution(build("mixer-laptop-32px"), image_size)


def test_mixer_with_concatenated_channels_is_refused() -> None:
    with pytest.raises(UserError, match="token_concat = 2"):
        change_resolution(build("mixer-laptop-32px", token_concat=2), 64)


@pytest.mark.parametrize("image_size", [24, 48, 64])
def test_vit_embeddings_are_zoomed_as_in_the_reference(image_size: int) -> None:
    """`interpolate_posembed` of vit_jax/checkpoint.py: scipy's linear zoom of the grid, class token apart."""
    low = build("vit-laptop-32px")
    high = change_resolution(low, image_size)
    old, new = low.body.pos_embed.detach().numpy()[0], high.body.pos_embed.detach().numpy()[0]
    factor = image_size / 32
    zoomed = scipy.ndimage.zoom(old[1:].reshape(SIDE, SIDE, WIDTH), (factor, factor, 1), order=1)
    assert np.array_equal(new[0], old[0])
    assert np.abs(new[1:] - zoomed.reshape(-1, WIDTH)).max() < 1e-12
    rest = [name for name in low.state_dict() if name != "body.pos_embed"]
    assert all(torch.equal(low.state_dict()[name], high.state_dict()[name]) for name in rest)
    assert high(torch.zeros(1, 3, image_size, image_size, dtype=torch.float64)).shape == (1, 5)


def test_vit_needs_whole_patches() -> None:
    with pytest.raises(UserError, match="multiple of its patch size 8"):
        change_resolution(build("vit-laptop-32px"), 44)


def test_bit_stays_as_it_is() -> None:
    low = build("bit-laptop-32px")
    high = change_resolution(low, 80)
    assert high.arguments.image_size == 80
    images = torch.randn(2, 3, 80, 80, dtype=torch.float64)
    assert torch.equal(high(images), low(images))


def test_families_without_a_rule_keep_weights_that_fit_and_refuse_others() -> None:
    assert change_resolution(build("timm:resnet18"), 64).arguments.image_size == 64
    with pytest.raises(UserError, match="family 'timm' has no rule"):
        change_resolution(build("timm:vit_tiny_patch16_224"), 64)


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px"])
def test_the_same_size_gives_a_copy(name: str) -> None:
    model = build(name)
    copy = change_resolution(model, 32)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = model(images)
    assert torch.equal(copy(images), expected)
    copy.head.bias.data.add_(1.0)
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px", "timm:resnet18"])
def test_a_new_head_starts_at_zero_on_the_old_body(name: str) -> None:
    model = build(name)
    model.train()
    new = replace_head(model, 3)
    assert new.training and next(new.parameters()).dtype == torch.float64
    new.eval(), model.eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(new(images), torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(new.features(images), model.body(images))
    assert new.num_params == model.num_body_params + 3 * model.num_features + 3


def test_transfer_leaves_the_generator_alone() -> None:
    model = build("vit-laptop-32px")
    state = torch.get_rng_state()
    change_resolution(replace_head(model, 3), 64)
    assert torch.equal(torch.get_rng_state(), state)
