"""Checkpoints in the layout of the papers' released files, against a NumPy forward pass of the reference formulas.

The formulas are written from models_mixer.py and models_vit.py of google-research/vision_transformer and from
models.py of google-research/big_transfer, on arrays under the names of the released files; they share no code
with the models under test.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel
from scaling.models.weights.files import load_weights, save_npz

NAMES = ("mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px")
SAME_NAMES = [(name, name) for name in NAMES]
Checkpoint = dict[str, np.ndarray]


def build(name: str, seed: int = 0, num_classes: int = 5, **options: object) -> VisionModel:
    """With every parameter random, biases, norms and classifier included."""
    torch.manual_seed(seed)
    model = build_model(name, num_classes=num_classes, image_size=32, options=options).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def layer_norm(x: np.ndarray, checkpoint: Checkpoint, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normed * checkpoint[f"{name}/scale"] + checkpoint[f"{name}/bias"]


def dense(x: np.ndarray, checkpoint: Checkpoint, name: str) -> np.ndarray:
    return x @ checkpoint[f"{name}/kernel"] + checkpoint[f"{name}/bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mlp_block(x: np.ndarray, checkpoint: Checkpoint, name: str) -> np.ndarray:
    return dense(gelu(dense(x, checkpoint, f"{name}/Dense_0")), checkpoint, f"{name}/Dense_1")


def patch_tokens(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """NHWC images to (N, tokens, width)."""
    size, batch, side = kernel.shape[0], len(images), images.shape[1] // kernel.shape[0]
    patches = images.reshape(batch, side, size, side, size, 3).transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(batch, side**2, -1) @ kernel.reshape(-1, kernel.shape[-1]) + bias


def mixer_forward(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    x = patch_tokens(images, checkpoint["stem/kernel"], checkpoint["stem/bias"])
    for index in range(2):
        block = f"MixerBlock_{index}"
        tokens = layer_norm(x, checkpoint, f"{block}/LayerNorm_0").swapaxes(1, 2)
        x = x + mlp_block(tokens, checkpoint, f"{block}/token_mixing").swapaxes(1, 2)
        x = x + mlp_block(layer_norm(x, checkpoint, f"{block}/LayerNorm_1"), checkpoint, f"{block}/channel_mixing")
    return dense(layer_norm(x, checkpoint, "pre_head_layer_norm").mean(1), checkpoint, "head")


def attention(x: np.ndarray, checkpoint: Checkpoint, name: str) -> np.ndarray:
    def project(part: str) -> np.ndarray:
        return (
            np.einsum("nld,dhk->nhlk", x, checkpoint[f"{name}/{part}/kernel"])
            + (checkpoint[f"{name}/{part}/bias"][:, None])
        )

    query, key, value = project("query"), project("key"), project("value")
    scores = np.exp(np.einsum("nhqk,nhlk->nhql", query / np.sqrt(query.shape[-1]), key))
    weights = scores / scores.sum(-1, keepdims=True)
    heads = np.einsum("nhql,nhlk->nqhk", weights, value)
    return np.einsum("nqhk,hkd->nqd", heads, checkpoint[f"{name}/out/kernel"]) + checkpoint[f"{name}/out/bias"]


def vit_forward(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    x = patch_tokens(images, checkpoint["embedding/kernel"], checkpoint["embedding/bias"])
    x = np.concatenate([np.tile(checkpoint["cls"], (len(x), 1, 1)), x], axis=1)
    x = x + checkpoint["Transformer/posembed_input/pos_embedding"]
    for index in range(2):
        block = f"Transformer/encoderblock_{index}"
        normed = layer_norm(x, checkpoint, f"{block}/LayerNorm_0")
        x = x + attention(normed, checkpoint, f"{block}/MultiHeadDotProductAttention_1")
        x = x + mlp_block(layer_norm(x, checkpoint, f"{block}/LayerNorm_2"), checkpoint, f"{block}/MlpBlock_3")
    x = layer_norm(x, checkpoint, "Transformer/encoder_norm")[:, 0]
    if "pre_logits/kernel" in checkpoint:
        x = np.tanh(dense(x, checkpoint, "pre_logits"))
    return dense(x, checkpoint, "head")


def conv(x: np.ndarray, kernel: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """NHWC images, HWIO kernel."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nxyihw,hwio->nxyo", windows, kernel)


def std_conv(x: np.ndarray, checkpoint: Checkpoint, name: str, **geometry: int) -> np.ndarray:
    kernel = checkpoint[f"{name}/standardized_conv2d/kernel"]
    centred = kernel - kernel.mean((0, 1, 2))
    return conv(x, centred / np.sqrt((centred**2).mean((0, 1, 2)) + 1e-10), **geometry)


def group_norm_relu(x: np.ndarray, checkpoint: Checkpoint, name: str, num_groups: int = 8) -> np.ndarray:
    grouped = x.reshape(*x.shape[:3], num_groups, -1)
    centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
    normed = centred / np.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    return np.maximum(normed.reshape(x.shape) * checkpoint[f"{name}/gamma"] + checkpoint[f"{name}/beta"], 0)


def bit_forward(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    x = std_conv(images, checkpoint, "resnet/root_block", stride=2, padding=3)
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-1, -2))
    for stage, num_units in enumerate((1, 2, 2), start=1):
        for number in range(1, num_units + 1):
            unit = f"resnet/block{stage}/unit{number:02d}"
            stride = 2 if stage > 1 and number == 1 else 1
            preact = group_norm_relu(x, checkpoint, f"{unit}/a/group_norm")
            shortcut = std_conv(preact, checkpoint, f"{unit}/a/proj", stride=stride) if number == 1 else x
            y = std_conv(preact, checkpoint, f"{unit}/a")
            y = group_norm_relu(y, checkpoint, f"{unit}/b/group_norm")
            y = std_conv(y, checkpoint, f"{unit}/b", stride=stride, padding=1)
            y = group_norm_relu(y, checkpoint, f"{unit}/c/group_norm")
            x = shortcut + std_conv(y, checkpoint, f"{unit}/c")
    x = group_norm_relu(x, checkpoint, "resnet/group_norm").mean((1, 2))
    return x @ checkpoint["resnet/head/conv2d/kernel"][0, 0] + checkpoint["resnet/head/conv2d/bias"]


FORWARD = dict(zip(NAMES, (mixer_forward, vit_forward, bit_forward), strict=True))


def arrays_of(path: Path) -> Checkpoint:
    with np.load(path) as file:
        return dict(file)


@pytest.fixture
def checkpoint_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Weights drawn in NumPy under the released names; a model supplies names and shapes only."""
    path = tmp_path / "weights.npz"
    save_npz(build(request.param), path)
    generator = np.random.default_rng(0)
    arrays = {}
    for name, array in arrays_of(path).items():
        centre = 1.0 if name.endswith(("scale", "gamma")) else 0.0
        arrays[name] = (centre + 0.2 * generator.standard_normal(array.shape)).astype(np.float32)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("checkpoint_path", "name"), SAME_NAMES, indirect=["checkpoint_path"])
def test_a_released_checkpoint_computes_the_reference_formulas(checkpoint_path: Path, name: str) -> None:
    model = build(name, seed=1)
    load_weights(model, checkpoint_path)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
    arrays = {key: value.astype(np.float64) for key, value in arrays_of(checkpoint_path).items()}
    expected = FORWARD[name](arrays, images)
    logits = model.double()(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-9
    single = model.float()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).detach().numpy()
    assert np.abs(single - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize(("checkpoint_path", "name"), SAME_NAMES, indirect=["checkpoint_path"])
def test_round_trip(checkpoint_path: Path, name: str, tmp_path: Path) -> None:
    model = build(name, seed=1)
    load_weights(model, checkpoint_path)
    save_npz(model, tmp_path / "again.npz")
    first, second = arrays_of(checkpoint_path), arrays_of(tmp_path / "again.npz")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert sum(array.size for array in first.values()) == model.num_params


@pytest.mark.parametrize(
    ("name", "published_name", "shape"),
    [
        ("mixer-laptop-32px", "MixerBlock_1/token_mixing/Dense_0/kernel", (16, 48)),
        ("mixer-laptop-32px", "stem/kernel", (8, 8, 3, 96)),
        (
            "vit-laptop-32px",
            "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel",
            (96, 3, 32),
        ),
        (
            "vit-laptop-32px",
            "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/out/kernel",
            (3, 32, 96),
        ),
        ("vit-laptop-32px", "Transformer/posembed_input/pos_embedding", (1, 17, 96)),
        ("vit-laptop-32px", "pre_logits/kernel", (96, 96)),
        ("bit-laptop-32px", "resnet/block2/unit01/a/proj/standardized_conv2d/kernel", (1, 1, 64, 128)),
        ("bit-laptop-32px", "resnet/head/conv2d/kernel", (1, 1, 256, 5)),
    ],
)
def test_names_and_shapes_of_the_released_files(
    name: str, published_name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    save_npz(build(name), tmp_path / "weights.npz")
    assert arrays_of(tmp_path / "weights.npz")[published_name].shape == shape


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vit-laptop-32px", "", "opt/target/"),
        ("mixer-laptop-32px", "", "params/"),
        ("vit-laptop-32px", "MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
        ("vit-laptop-32px", "MlpBlock_3", "MlpBlock_0"),
        ("vit-laptop-32px", "LayerNorm_2", "LayerNorm_1"),
        ("bit-laptop-32px", "a/standardized_conv2d/", "a/standardized_conv2d_1/"),
    ],
)
def test_variants_of_the_names_are_understood(name: str, old: str, new: str, tmp_path: Path) -> None:
    model, other = build(name), build(name, seed=1)
    save_npz(model, tmp_path / "weights.npz")
    arrays = arrays_of(tmp_path / "weights.npz")
    renamed = {key.replace(old, new, 1): value for key, value in arrays.items()}
    assert renamed.keys() != arrays.keys()
    np.savez(tmp_path / "weights.npz", **renamed)
    load_weights(other, tmp_path / "weights.npz")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_body_for_another_task_keeps_its_own_head(name: str, suffix: str, tmp_path: Path) -> None:
    published, model = build(name), build(name, seed=1, num_classes=3)
    path = (tmp_path / "weights").with_suffix(suffix)
    save_npz(published, path) if suffix == ".npz" else save_file(published.state_dict(), path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match="classes"):
        load_weights(model, path)
    load_weights(model, path, head="keep")
    for key, value in model.state_dict().items():
        source = published.state_dict() if key.startswith("body.") else before
        assert torch.equal(value, source[key])


def test_vit_files_with_and_without_tanh_layer(tmp_path: Path) -> None:
    upstream, fine_tuned = tmp_path / "upstream.npz", tmp_path / "fine_tuned.npz"
    save_npz(build("vit-laptop-32px"), upstream)
    save_npz(build("vit-laptop-32px", pre_logits="none"), fine_tuned)
    with pytest.raises(UserError, match="tanh layer before the classifier"):
        load_weights(build("vit-laptop-32px", pre_logits="none"), upstream)
    with pytest.raises(UserError, match=r"'pre_logits/bias'.*option pre_logits: none"):
        load_weights(build("vit-laptop-32px"), fine_tuned)
    load_weights(build("vit-laptop-32px", pre_logits="none"), upstream, head="keep")


def test_a_wrong_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model = build("mixer-laptop-32px")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    save_npz(build("bit-laptop-32px"), tmp_path / "bit.npz")
    save_file(build("vit-laptop-32px").state_dict(), tmp_path / "vit.safetensors")
    for name in ("weights.pt", "broken.npz", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
    save_npz(build_model("mixer-laptop-32px", num_classes=5, image_size=64), tmp_path / "64.npz")
    for source, message in [
        ("bit.npz", r"lack .*MixerBlock_0"),
        ("vit.safetensors", "extra 'body.blocks.0.attn"),
        ("broken.npz", "cannot be read as an .npz file"),
        ("broken.safetensors", "cannot be read as a safetensors file"),
        ("weights.pt", r"must end in \.safetensors or \.npz"),
        ("none.npz", "no such file"),
        ("64.npz", "image size"),
    ]:
        with pytest.raises(UserError, match=message):
            load_weights(model, tmp_path / source)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_pickled_arrays_are_never_read(tmp_path: Path) -> None:
    model = build("mixer-laptop-32px")
    save_npz(model, tmp_path / "weights.npz")
    arrays = arrays_of(tmp_path / "weights.npz")
    np.savez(tmp_path / "weights.npz", **(arrays | {"stem/kernel": np.array([{}], dtype=object)}))
    with pytest.raises(UserError, match="pickle"):
        load_weights(model, tmp_path / "weights.npz")


@pytest.mark.parametrize("name", ["mixer-conv-laptop-32px", "timm:resnet18"])
def test_no_layout_was_published_for_other_families(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no published \.npz layout"):
        save_npz(build_model(name, num_classes=5, image_size=32), tmp_path / "weights.npz")


def test_ablated_mixers_have_no_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=json.dumps("token_mlps").strip('"')):
        save_npz(build("mixer-laptop-32px", token_mlps=2), tmp_path / "weights.npz")
