"""Input made to exhaust or mislead: numbers, names and images out of bounds are refused at once, in bounded memory."""

import csv
import io
import json
import tarfile
import time
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from scaling.data.format import tar_headers
from scaling.data.format.class_names import read_classes
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.shard import Shard
from scaling.data.format.tar_headers import MAX_NAME_BYTES, read_members
from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.read.images.transforms import evaluate_view
from scaling.data.storage.integrity import CorruptShardError
from scaling.data.tools.sources.find import find_source
from scaling.errors import UserError

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def sound(tiny_data: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((tiny_data / "train.json").read_text())
    return body


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda body: body["shards"]["num_samples"].__setitem__(0, 2**63), r"shards\.num_samples: holds a number"),
        (lambda body: body["shards"]["num_samples"].__setitem__(0, 10**12), r"shards\.num_samples: holds a number"),
        (lambda body: body["shards"]["bytes"].__setitem__(0, -1), r"shards\.bytes: holds a number that is negative"),
        (lambda body: body.__setitem__("num_samples", 10**12), "num_samples: 1000000000000 is not from 1"),
        (lambda body: body["shards"]["url"].__setitem__(0, "a\0b"), r"shards\.url: 'a\\x00b' is not a path"),
        (lambda body: body["shards"]["url"].__setitem__(0, "../../x.tar"), r"leaves the manifest's folder"),
        (lambda body: body["shards"]["url"].__setitem__(0, "pipe:rm"), "commands are never run"),
        (lambda body: body["shards"]["url"].__setitem__(0, "file:///etc/passwd"), "is not read"),
        (lambda body: body["shards"]["url"].__setitem__(0, body["shards"]["url"][1]), "occurs 2 times"),
        (lambda body: body["shards"]["sha256"].__setitem__(0, "/etc/passwd"), r"shards\.sha256"),
        (lambda body: body["classes"].__setitem__(0, 7), "classes: holds something else"),
        (lambda body: body["classes"].__setitem__(0, "\ud800"), "cannot be written as UTF-8"),
        (lambda body: body["classes"].__setitem__(0, "a\x1b[2J"), r"classes: 'a\\x1b\[2J' holds \\x1b, which is not"),
        (lambda body: body.__setitem__("name", "a\nb"), r"name: 'a\\nb' holds \\n, which is not printable"),
        (lambda body: body.__setitem__("name", "x" * 2000), "name: has 2,000 characters"),
        (lambda body: body["class_counts"].__setitem__(0, -1), "class_counts"),
        (lambda body: body["class_counts"].pop(), "class_counts"),
        (lambda body: body.__setitem__("labels", {"form": "pickle"}), "labels: names no rule"),
        (lambda body: body.__setitem__("labels", {"form": "values", "values": [1, 1, 2, 3]}), "the same identifier"),
        (lambda body: body.__setitem__("labels", {"form": "vectors"}), "was edited"),
        (lambda body: body.__setitem__("shard_labels", {"spread": "x"}), "shard_labels"),
    ],
)
def test_a_manifest_out_of_bounds_is_refused(
    tiny_data: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], Any], told: str
) -> None:
    body = sound(tiny_data)
    edit(body)
    (tmp_path / "m.json").write_text(json.dumps(body))
    started = time.monotonic()
    with pytest.raises(UserError, match=told):
        load_manifest(tmp_path / "m.json")
    assert time.monotonic() - started < 1


def test_a_declared_count_out_of_bounds_is_refused_before_names_are_made(tmp_path: Path) -> None:
    body = {"schema": 1, "declared": True, "name": "x", "label_type": "multi", "num_samples": 10}
    for num_classes in (10**12, 0, -3):
        (tmp_path / "m.json").write_text(json.dumps(body | {"num_classes": num_classes}))
        with pytest.raises(UserError, match="num_classes"):
            load_manifest(tmp_path / "m.json")


def test_a_file_of_gigabytes_is_no_manifest(tmp_path: Path) -> None:
    with (tmp_path / "m.json").open("wb") as stream:
        stream.truncate(2 * 1024**3)
    with pytest.raises(UserError, match="that is no manifest"):
        load_manifest(tmp_path / "m.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

FIELDS = ["schema", "name", "label_type", "classes", "num_samples", "digest", "shards", "origin", "declared"]
FIELDS += ["num_classes", "class_counts", "labels", "shard_labels"]


@FUZZ
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_value_in_any_field_of_a_manifest_is_read_or_refused(
    tiny_data: Path, tmp_path: Path, field: str, value: object
) -> None:
    (tmp_path / "m.json").write_text(json.dumps(sound(tiny_data) | {field: value}))
    try:
        load_manifest(tmp_path / "m.json")
    except UserError as error:
        assert "m.json" in str(error)


@FUZZ
@given(column=st.sampled_from(["url", "num_samples", "bytes", "sha256"]), value=JSON, place=st.integers(0, 4))
def test_any_value_in_any_column_of_a_manifest_is_read_or_refused(
    tiny_data: Path, tmp_path: Path, column: str, value: object, place: int
) -> None:
    body = sound(tiny_data)
    body["shards"][column][place] = value
    (tmp_path / "m.json").write_text(json.dumps(body))
    try:
        manifest = load_manifest(tmp_path / "m.json")
    except UserError as error:
        assert "m.json" in str(error)
    else:
        assert column == "url" or manifest.digest == sound(tiny_data)["digest"]


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_as_manifest_classes_and_table(tmp_path: Path, content: bytes) -> None:
    for name, read in (("m.json", load_manifest), ("c.txt", read_classes), ("t.csv", find_source)):
        (tmp_path / name).write_bytes(content)
        try:
            read(tmp_path / name)  # type: ignore[operator]
        except UserError as error:
            assert name in str(error) or "source lists no images" in str(error)


@FUZZ
@given(
    rows=st.lists(
        st.tuples(st.text(max_size=6), st.one_of(st.text(max_size=6), st.integers(), st.floats())), max_size=5
    )
)
def test_any_table_gives_classes_that_occur_or_a_sentence(tmp_path: Path, rows: list[tuple[str, object]]) -> None:
    """No label is invented: each class is the text, or the number, of some row."""
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "labels"])
        writer.writerows(rows)
    try:
        source = find_source(tmp_path / "t.csv")
    except UserError:
        return
    texts = {
        unicodedata.normalize("NFC", part.strip())
        for _, label in rows
        for part in str(label).split("|")
        if part.strip()
    }
    numbers = {str(int(float(text))) for text in texts if text.replace(".", "").replace("e+", "").isdecimal()}
    assert set(source.classes) <= texts | numbers


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header("pax", len(records), kind) + records + bytes(-len(records) % 512)


END = bytes(1024)


def listed(data: bytes) -> list[str]:
    members = read_members(lambda start, size: data[start : start + size], len(data), "a.tar").members
    return [member.name for member in members]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (pax(b"30 size=99999999999999999999999\n"), "gives the size"),
        (pax(b"%d size=%s\n" % (5011, b"9" * 5000)), "gives the size"),
        (pax(b"12 size=-99\n"), "gives the size"),
        (pax(b"99999 path=a\n"), "is broken"),
        (pax(b"x path=a\n"), "is broken"),
        (pax(b"10 path=a\n", b"g"), "gives all members one name"),
        (pax(b"22 GNU.sparse.major=1\n"), "sparse file"),
        (header("x", MAX_NAME_BYTES + 1, b"x") + bytes(2 * MAX_NAME_BYTES), "a name of 65,537 bytes"),
    ],
)
def test_pax_headers_out_of_bounds_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(CorruptShardError, match=told):
        listed(data + header("a.png", 0, b"0") + END)


def test_a_long_name_of_a_folder_does_not_become_that_of_the_next_file() -> None:
    data = pax(b"17 path=folder/a\n") + header("short", 0, b"5") + header("b.png", 0, b"0") + END
    assert listed(data) == ["b.png"]


def test_more_members_than_a_shard_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "MAX_MEMBERS", 10)
    with pytest.raises(CorruptShardError, match="more than 10 members"):
        listed(b"".join(header(f"{number}.txt", 0, b"0") for number in range(20)) + END)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html>" * 100, "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS pointer"),
        (b"PK\x03\x04" * 300, "a zip archive"),
        (b"\x28\xb5\x2f\xfd" * 300, "a zstd archive"),
    ],
)
def test_files_that_are_no_tars_are_named_for_what_they_are(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(CorruptShardError, match=told):
        Shard(str(tmp_path / "a.tar"))


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2000, 2000), (1, 2, 3)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    start = data.find(b"\xff\xda", data.find(b"\xff\xda") + 2)
    end = data.find(b"\xff\xda", start + 2)
    assert decode_rgb(data).shape == (2000, 2000, 3)
    started = time.monotonic()
    with pytest.raises(DecodeError, match="scans of 4,000,000 pixels"):
        decode_rgb(data[:end] + data[start:end] * 20_000 + data[end:])
    assert time.monotonic() - started < 1


def test_an_image_of_too_many_pixels_is_refused_from_its_header() -> None:
    stream = io.BytesIO()
    Image.new("1", (10_000, 5_001)).save(stream, "PNG")
    tracemalloc.start()
    with pytest.raises(DecodeError, match="above the limit"):
        decode_rgb(stream.getvalue())
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_long_texts_in_a_png_do_not_cost_the_image() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("x", "y" * 2_000_000, zip=True)
    stream = io.BytesIO()
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=text)
    assert np.array_equal(decode_rgb(stream.getvalue()), pixels)


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (2, 49_000)])
def test_an_image_of_extreme_shape_costs_what_others_cost(shape: tuple[int, int]) -> None:
    """Its middle, as of any other image: here the middle half is white."""
    pixels = np.zeros((*shape, 3), np.uint8)
    axis = int(np.argmax(shape))
    quarter = shape[axis] // 4
    middle = slice(quarter, 3 * quarter)
    pixels[(middle, slice(None)) if axis == 0 else (slice(None), middle)] = 255
    started = time.monotonic()
    view = evaluate_view(pixels, "upstream", 224)
    assert time.monotonic() - started < 2
    assert view.shape == (3, 224, 224) and bool(torch.all(view == 255))
