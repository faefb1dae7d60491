"""Names without torch, refusals with a way out, and families of users."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scaling.errors import UserError, run_command
from scaling.models import registry
from scaling.models.__main__ import main
from scaling.models.build import build_model
from scaling.models.family import Family, ModelSpec
from scaling.models.options import FamilyOptions
from scaling.models.registry import (
    check_name,
    check_options,
    default_image_size,
    family_of,
    list_models,
    register_family,
)
from scaling.models.timm_names import timm_models

REPOSITORY = Path(__file__).parents[2]


def test_names_and_options_are_checked_without_torch() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from scaling.models.registry import check_name, check_options, default_image_size, family_of, list_models
check_name("timm:resnet18")
for name in list_models():
    check_name(name), check_options(name, {{}}), default_image_size(name), family_of(name)
print(sorted({{"torch", "timm", "numpy"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_families_and_sizes() -> None:
    assert [family_of(name) for name in ("mixer-b/32", "vit-b-half/32", "bit-r152x2", "mixer-conv-s/16")] == [
        *("mixer", "vit", "bit", "mixer-conv"),
    ]
    assert family_of("timm:resnet18") == "timm"
    assert default_image_size("vit-h/14") == 224
    assert default_image_size("bit-laptop-64px") == 64


def test_no_two_names_differ_only_in_case() -> None:
    assert len({name.casefold() for name in list_models()}) == len(list_models())


@pytest.mark.parametrize(
    ("name", "nearest"), [("mixer-b32", "mixer-b/32"), ("ViT-B/16", "vit-b/16"), ("bit-r50x4", "bit-r50x")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"{name}.*did you mean '{nearest}"):
        check_name(name)


def test_a_bare_timm_prefix_is_no_name() -> None:
    with pytest.raises(UserError, match="timm:"):
        check_name("timm:")


def test_timm_names_are_timms_own_and_known_without_it() -> None:
    import timm

    assert timm_models() == set(timm.list_models())
    for name in ("timm:resnet18", "timm:resnet50.a1_in1k", "timm:gluon_resnet101_v1d"):
        assert timm.is_model(name.removeprefix("timm:"))
        check_name(name)


@pytest.mark.parametrize(("name", "near"), [("timm:resnet1888", "resnet18"), ("timm:" + "x" * 300, "list_models")])
def test_an_unknown_timm_name_is_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"model 'timm:.*timm has no such model; .*{near}"):
        check_name(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gelo": "tanh"}, "'gelo'.*did you mean 'gelu'"),
        ({"gelu": "relu"}, "gelu = 'relu'.*'tanh' or 'exact'"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"token_mlps": 0}, "token_mlps = 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options("mixer-b/16", options)


@pytest.mark.parametrize(
    "argv",
    [
        ["mixer-b/31"],
        ["mixer-b/32", "--options", "{"],
        ["mixer-b/32", "--options", "[]"],
        ["mixer-b/32", "--image-size", "225"],
        ["mixer-b/32", "--num-classes", "0"],
        ["bit-r50x1", "--image-size", "-1"],
        ["timm:resnet18"],
        ["timm:resnet181", "--image-size", "224"],
        ["timm:resnet18", "--image-size", "224", "--options", '{"no_such_option": 1}'],
        ["timm:resnet18", "--image-size", "224", "--options", '{"block_args": 1e400}'],
        ["timm:resnet18", "--image-size", "224", "--options", '{"in_chans": 0, "layers": {"a": []}}'],
        ["mixer-b/32", "--options", '{"token_mlp_dim": 1000000000000}'],
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1


class NarrowOptions(FamilyOptions):
    width: int = 4


FAMILY = Family(
    name="mean-colour",
    builder="mean_colour:build",
    models=(ModelSpec(name="mean-colour-3", image_size=16, shape=None, source="a test"),),
    options=NarrowOptions,
)

PLUG_IN = """
from torch import nn
from scaling.models.family import Family, ModelSpec
from scaling.models.networks.vision_model import VisionModel
def build(shape, arguments, options):
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return VisionModel(arguments, family="mean-colour", body=body, num_features=3)
FAMILY = Family(
    name="mean-colour",
    builder="mean_colour:build",
    models=(ModelSpec(name="mean-colour-3", image_size=16, shape=None, source="a test"),),
)
"""


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Families that a test adds are gone after it."""
    for cached in (registry._families, registry._models):
        cached.cache_clear()
    yield
    for cached in (registry._families, registry._models):
        cached.cache_clear()


@pytest.mark.usefixtures("own_registry")
def test_a_family_from_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mean_colour.py").write_text(PLUG_IN)
    metadata = tmp_path / "mean_colour-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-colour\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[scaling.models]\nmean-colour = mean_colour:FAMILY\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = build_model("mean-colour-3", num_classes=5, image_size=16, head_bias=-10.0)
    assert (family_of("mean-colour-3"), model.family) == ("mean-colour", "mean-colour")
    assert model(torch.ones(2, 3, 16, 16)).tolist() == [[-10.0] * 5] * 2


@pytest.mark.usefixtures("own_registry")
def test_a_registered_family() -> None:
    register_family(FAMILY)
    assert family_of("mean-colour-3") == "mean-colour"
    check_options("mean-colour-3", {"width": 8})
    with pytest.raises(UserError, match=r"'depth'.*'width'"):
        check_options("mean-colour-3", {"depth": 8})
    with pytest.raises(UserError, match="already belongs to family 'mean-colour'"):
        register_family(Family(name="thief", builder="m:f", models=FAMILY.models))
