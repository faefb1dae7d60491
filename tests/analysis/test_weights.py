"""First layers of real models: the maps are the weights, pairs are opposites, frequencies are those of known waves."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from analysis.figures.first_layers import token_mixing_figure
from analysis.first_layer_maps.first_layers import FirstLayers, read_first_layers
from analysis.first_layer_maps.unit_pairs import median_cosine_by_chance, pair_opposites, spatial_frequency
from analysis.weights import main
from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel
from scaling.models.weights.files import save_npz
from scaling.records.run_dir import RunDir

RNG = np.random.default_rng(0)


def model(name: str) -> VisionModel:
    torch.manual_seed(0)
    return build_model(name, num_classes=5, image_size=32)


def kept(name: str, run_dir: Path, permute: str = "none") -> VisionModel:
    """Weights where training keeps them, described as training describes them."""
    network = model(name)
    RunDir(run_dir).best_weights.parent.mkdir(parents=True)
    metadata = {"model": json.dumps({"name": name}), "input": json.dumps({"permute": permute})}
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, RunDir(run_dir).best_weights, metadata
    )
    return network


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "mixer-conv-laptop-32px"])
def test_a_unit_of_a_run_is_its_row_of_weights(name: str, tmp_path: Path) -> None:
    state = kept(name, tmp_path, "global").state_dict()
    layers = read_first_layers(tmp_path, 2)
    assert layers.title == f"{name}, trained with pixels permuted (global)"
    for number, maps in enumerate(layers.token_units):
        assert maps.shape == (48, 4, 4)
        rows = state[f"body.blocks.{number}.mlp_tokens.fc1.weight"].flatten(1).numpy()
        assert np.array_equal(maps.reshape(48, 16), rows)
    assert np.array_equal(layers.stem, state["body.stem.proj.weight"].numpy())


@pytest.mark.parametrize("name", ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px"])
def test_published_layouts_read_like_our_own(name: str, tmp_path: Path) -> None:
    network = kept(name, tmp_path / "run")
    save_npz(network, tmp_path / "published.npz")
    with np.load(tmp_path / "published.npz") as file:
        np.savez(tmp_path / "prefixed.npz", **{f"opt/target/{key}": file[key] for key in file.files})
    ours = read_first_layers(tmp_path / "run", 9)
    for path in ("published.npz", "prefixed.npz"):
        theirs = read_first_layers(tmp_path / path, 9)
        assert np.array_equal(theirs.stem, ours.stem)
        assert len(theirs.token_units) == len(ours.token_units) == (2 if "mixer" in name else 0)
        assert all(np.array_equal(a, b) for a, b in zip(theirs.token_units, ours.token_units, strict=True))


@pytest.mark.parametrize(("across", "down"), [(0, 0), (1, 0), (0, 3), (3, 4)])
def test_a_wave_has_its_own_frequency(across: int, down: int) -> None:
    place = np.arange(14) / 14
    wave = np.cos(2 * np.pi * (across * place[None, :] + down * place[:, None]) + 0.7)
    colours = np.stack([wave, 2 * wave, -wave])
    expected = np.hypot(across, down)
    assert spatial_frequency(np.stack([wave, 5 * wave])) == pytest.approx([expected, expected], abs=1e-9)
    assert spatial_frequency(colours[None]) == pytest.approx([expected], abs=1e-9)


def test_opposites_find_each_other_and_low_frequencies_come_first() -> None:
    units = RNG.normal(size=(20, 6, 6))
    both = np.concatenate([units, -3 * units])[RNG.permutation(40)]
    pairs = pair_opposites(both)
    assert sorted([*pairs.first, *pairs.second]) == list(range(40))
    assert pairs.cosine == pytest.approx(-np.ones(20))
    assert np.all(np.diff(pairs.frequency) >= 0)
    ratio = np.sort(both[pairs.first].reshape(20, -1) / both[pairs.second].reshape(20, -1), axis=1)
    assert np.all(np.isclose(ratio, -3) | np.isclose(ratio, -1 / 3))
    assert median_cosine_by_chance(both) > -0.6


def test_an_odd_unit_is_left_over() -> None:
    pairs = pair_opposites(RNG.normal(size=(7, 4, 4)))
    assert len(pairs.first) == 3 and len({*pairs.first, *pairs.second}) == 6


def test_the_picture_shows_every_unit_once_scaled_by_its_largest_weight() -> None:
    maps = RNG.normal(size=(10, 5, 5)) * RNG.uniform(0.1, 9, size=(10, 1, 1))
    drawing = token_mixing_figure(FirstLayers("m", [maps], np.zeros((1, 3, 2, 2))))
    shown = np.asarray(drawing.figure.axes[0].images[0].get_array().filled(np.nan))
    values = np.sort(shown[~np.isnan(shown)])
    assert values == pytest.approx(np.sort((maps / np.abs(maps).max(axis=(1, 2), keepdims=True)).ravel()))


def test_the_command_writes_the_same_files_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept("mixer-laptop-32px", tmp_path / "run")
    for out in ("one", "two"):
        assert main([str(tmp_path / "run"), "--out", str(tmp_path / out), "--layers", "1"]) == 0
    assert "by chance" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        f"{figure}.{ending}" for figure in ("stem", "token_mixing") for ending in ("csv", "pdf", "png", "svg")
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    table = pd.read_csv(tmp_path / "one" / "token_mixing.csv")
    assert set(table["layer"]) == {1} and sorted([*table["unit"], *table["inverse"]]) == list(range(48))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "noise.npz").write_bytes(b"no zip")
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    np.savez(tmp_path / "pickled.npz", **{"stem/kernel": np.array([{"a": 1}])})
    for name, reason in [
        ("absent.npz", "there are no weights"),
        ("noise.safetensors", "cannot be read as a safetensors file"),
        ("noise.npz", "cannot be read as an .npz file"),
        ("pickled.npz", "cannot be read as an .npz file"),
        ("other.safetensors", "holds no stem of a Mixer, ViT or BiT"),
    ]:
        with pytest.raises(UserError, match=reason):
            main([str(tmp_path / name), "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="train the run to its first validation"):
        main([str(tmp_path)])
    assert not (tmp_path / "out").exists()
