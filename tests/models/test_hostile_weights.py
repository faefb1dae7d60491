"""Weights files of others that are damaged or made to do harm: one sentence, whatever a few kilobytes claim to hold."""

import io
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from analysis.first_layer_maps.first_layers import read_first_layers
from scaling.errors import UserError
from scaling.evaluate.architecture import read_architecture
from scaling.models.build import build_model
from scaling.models.weights.files import load_weights, save_npz

BOMB = 600 * 2**20
"""Bytes of zeros; they take 600 kB in a zip."""


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def with_member(sound: Path, path: Path, name: str, content: bytes, zeros: int = 0) -> Path:
    """A copy of a checkpoint in which one array is another."""
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        with new.open(name, "w", force_zip64=True) as stream:
            stream.write(content)
            for _ in range(zeros // 2**20):
                stream.write(bytes(2**20))
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("npz") / "sound.npz"
    save_npz(build_model("mixer-laptop-32px", num_classes=5, image_size=32, options={}), path)
    return path


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def test_arrays_that_unpack_to_hundreds_of_megabytes_are_refused_or_not_read(sound: Path, tmp_path: Path) -> None:
    model = build_model("mixer-laptop-32px", num_classes=5, image_size=32, options={})
    shape = (BOMB // 4,)
    before = peak_mib()
    extra = with_member(sound, tmp_path / "extra.npz", "extra.npy", header(shape), BOMB)
    assert extra.stat().st_size < 3_000_000
    load_weights(model, extra)
    bomb = with_member(sound, tmp_path / "bomb.npz", "stem/kernel.npy", header(shape), BOMB)
    with pytest.raises(UserError, match=r"'stem/kernel' has 629,\d{3},\d{3} bytes, more than"):
        load_weights(model, bomb)
    assert peak_mib() < before + 300


@pytest.mark.parametrize(
    "content",
    [b"", b"no array", header((10**12,)), header((10**7,)), header((-1,)), header((3, 10**6)) + b"x", b"\x93NUMPY\x09"],
)
def test_an_array_that_is_none_is_refused(sound: Path, tmp_path: Path, content: bytes) -> None:
    path = with_member(sound, tmp_path / "bad.npz", "stem/kernel.npy", content)
    model = build_model("mixer-laptop-32px", num_classes=5, image_size=32, options={})
    with pytest.raises(UserError):
        load_weights(model, path)
    with pytest.raises(UserError, match="cannot be read as an"):
        read_first_layers(path, 1)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"__metadata__": {"model": "{}", "input": "{}"}}', b'{"__metadata__": ' + b"[" * 100_000, b"[1]"],
)
def test_a_header_that_says_nonsense_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UserError):
        read_architecture(str(path), None, None, {}, None)
    with pytest.raises(UserError):
        read_first_layers(path, 1)
