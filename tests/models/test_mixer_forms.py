"""Mixer as a convolutional network, with untied and with grouped token mixing, under permuted inputs."""

import numpy as np
import pytest
import torch

from scaling.data.select.permute import permute_pixels, pixel_permutation
from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.mixer_conv import to_conv, to_linear
from scaling.models.networks.vision_model import VisionModel

NAME = "mixer-laptop-32px"
SIDE, NUM_TOKENS, WIDTH, HIDDEN = 4, 16, 96, 48
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(name: str = NAME, **options: object) -> VisionModel:
    """In double precision, with every parameter drawn at random, biases and norms included."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, image_size=32, options=options).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def test_the_convolutional_twin_computes_the_same() -> None:
    linear, conv = build(), build("mixer-conv-laptop-32px")
    conv.load_state_dict(to_conv(linear.state_dict(), SIDE))
    assert torch.allclose(conv(IMAGES), linear(IMAGES), rtol=1e-12, atol=1e-12)
    conv.float(), linear.float()
    assert torch.allclose(conv(IMAGES.float()), linear(IMAGES.float()), rtol=1e-5, atol=1e-5)


def test_the_twins_gradients_are_the_same_too() -> None:
    linear, conv = build(), build("mixer-conv-laptop-32px")
    conv.load_state_dict(to_conv(linear.state_dict(), SIDE))
    for model in (linear, conv):
        model(IMAGES).square().sum().backward()
    gradients = to_linear({name: parameter.grad for name, parameter in conv.named_parameters()})
    for name, parameter in linear.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-9, atol=1e-9)


def test_weights_go_to_the_twin_and_back() -> None:
    state = build().state_dict()
    back = to_linear(to_conv(state, SIDE))
    assert state.keys() == back.keys()
    assert all(torch.equal(state[name], back[name]) for name in state)


def test_the_twin_is_made_of_convolutions_only() -> None:
    body = build("mixer-conv-laptop-32px").body
    assert not any(isinstance(module, torch.nn.Linear) for module in body.modules())
    assert body.blocks[0].mlp_tokens.fc1.kernel_size == (SIDE, SIDE)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_starts_both_twins_alike(seed: int) -> None:
    states = []
    for name in (NAME, "mixer-conv-laptop-32px"):
        torch.manual_seed(seed)
        states.append(build_model(name, num_classes=5, image_size=32).state_dict())
    linear, conv = states
    assert all(torch.equal(value, conv[name]) for name, value in to_conv(linear, SIDE).items())


def token_mlp_by_hand(mlps, channels: torch.Tensor, concat: int) -> torch.Tensor:
    """One vector after the other: neighbouring channels end to end, through the MLP of their block."""
    batch, num_channels, num_tokens = channels.shape
    num_vectors = num_channels // concat
    mixed = torch.empty_like(channels)
    for vector in range(num_vectors):
        mlp = vector * mlps.num_mlps // num_vectors
        members = slice(vector * concat, (vector + 1) * concat)
        hidden = channels[:, members].reshape(batch, -1) @ mlps.fc1.weight[mlp].T + mlps.fc1.bias[mlp]
        outputs = torch.nn.functional.gelu(hidden, approximate="tanh") @ mlps.fc2.weight[mlp].T + mlps.fc2.bias[mlp]
        mixed[:, members] = outputs.reshape(batch, concat, num_tokens)
    return mixed


@pytest.mark.parametrize(
    ("options", "num_mlps", "concat"),
    [
        ({"token_mlps": 4}, 4, 1),
        ({"token_mlps": "per_channel"}, WIDTH, 1),
        ({"token_concat": 8}, 1, 8),
        ({"token_mlps": 2, "token_concat": 4}, 2, 4),
        ({"token_mlps": "per_channel", "token_concat": 4}, WIDTH // 4, 4),
    ],
)
def test_ablated_token_mixing(options: dict[str, object], num_mlps: int, concat: int) -> None:
    model = build(**options)
    mlps = model.body.blocks[0].mlp_tokens
    channels = torch.randn(2, WIDTH, NUM_TOKENS, dtype=torch.float64)
    assert torch.allclose(mlps(channels), token_mlp_by_hand(mlps, channels, concat), rtol=0, atol=1e-12)
    inputs = NUM_TOKENS * concat
    per_mlp = 2 * inputs * HIDDEN + HIDDEN + inputs
    assert sum(parameter.numel() for parameter in mlps.parameters()) == num_mlps * per_mlp
    assert model(IMAGES).shape == (3, 5)


def test_untied_mlps_with_equal_weights_are_the_shared_one() -> None:
    shared, untied = build(), build(token_mlps="per_channel")
    state = shared.state_dict()
    for name, value in untied.state_dict().items():
        if "mlp_tokens" in name:
            state[name] = state[name].expand_as(value)
    untied.load_state_dict(state)
    assert torch.allclose(untied(IMAGES), shared(IMAGES), rtol=1e-12, atol=1e-12)


def test_ablated_kernels_start_as_the_shared_one_does() -> None:
    torch.manual_seed(0)
    model = build_model(NAME, num_classes=5, image_size=32, options={"token_mlps": "per_channel"})
    kernels = model.body.blocks[0].mlp_tokens.fc1.weight
    assert kernels.std().item() == pytest.approx(NUM_TOKENS**-0.5, rel=0.02)


def test_blocks_of_channels_must_be_equal() -> None:
    with pytest.raises(UserError, match=r"token_mlps = 5 .* must divide the 96 channels"):
        build(token_mlps=5)


@pytest.mark.parametrize("name", [NAME, "mixer-conv-laptop-32px"])
def test_mixer_does_not_see_patches_and_pixels_permuted(name: str) -> None:
    """Section 3.4: the permutation is absorbed by the stem's kernel and the token-mixing MLPs."""
    patch_size = 8
    permutation = pixel_permutation(32, patch_size, seed=3, kind="patches_and_pixels")
    model = build(name)
    permuted = build(name)
    patch_order, pixel_order = absorbed_permutations(permutation, patch_size)
    state = to_linear(model.state_dict())
    kernel = state["body.stem.proj.weight"]
    state["body.stem.proj.weight"] = kernel.flatten(2)[..., pixel_order].reshape(kernel.shape)
    for key, value in state.items():
        if key.endswith("mlp_tokens.fc1.weight"):
            state[key] = value[:, patch_order]
        elif "mlp_tokens.fc2" in key:
            state[key] = value[patch_order]
    permuted.load_state_dict(to_conv(state, SIDE) if "conv" in name else state)
    shuffled = permute_pixels(IMAGES, permutation)
    assert torch.allclose(permuted(shuffled), model(IMAGES), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(model(shuffled), model(IMAGES), rtol=0, atol=1e-3)


def absorbed_permutations(permutation: np.ndarray, patch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which old patch, and which old pixel inside it, stands at each new place; read off the whole permutation."""
    row, column = np.divmod(permutation.reshape(32, 32), 32)
    patches = row // patch_size * SIDE + column // patch_size
    pixels = row % patch_size * patch_size + column % patch_size
    first_patch = pixels[:patch_size, :patch_size].ravel()
    return torch.from_numpy(patches[::patch_size, ::patch_size].ravel()), torch.from_numpy(first_patch)
