"""Dependencies as they are: what is imported is declared, what is declared is imported, and the names of DeepSpeed that
training leans on are there."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MODULES = {
    "fonttools": "fontTools",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "huggingface_hub": "huggingface_hub",
    "nvidia-ml-py": "pynvml",
    "nvidia-nvimgcodec-cu13": "nvidia",
}
"""Import name of a distribution where it is another one."""

PLUGINS = {"s3fs", "gcsfs", "aiohttp", "huggingface_hub", "tensorboard"}
"""Never imported by our code: fsspec and PyTorch load them by name."""

OURS = {"scaling", "analysis"}


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=~! ]", requirement)[0].lower()


def imported() -> dict[str, str]:
    """Top-level modules that are no part of Python, each with a file that imports it."""
    found: dict[str, str] = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                found |= {name.partition(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OURS}


def declared(requirements: list[str]) -> set[str]:
    return {MODULES.get(name, name) for name in map(name_of, requirements)}


def test_every_import_is_declared() -> None:
    optional = PROJECT["optional-dependencies"]
    known = declared(PROJECT["dependencies"]) | {
        name for extra, requirements in optional.items() if extra != "test" for name in declared(requirements)
    }
    # pydantic's own core, installed with it and never without.
    missing = {name: path for name, path in imported().items() if name not in known | {"pydantic_core"}}
    assert not missing, f"declare these in pyproject.toml: {missing}"


def test_every_dependency_is_imported() -> None:
    unused = declared(PROJECT["dependencies"]) - set(imported()) - PLUGINS - {"ray", "submitit", "braceexpand"}
    assert not unused, f"take these out of pyproject.toml: {unused}"
    extras = {
        name
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra != "test"
        for name in declared(requirements)
    }
    assert not extras - set(imported()) - PLUGINS


def test_this_deepspeed_is_one_that_the_declaration_allows() -> None:
    (bound,) = [text for text in PROJECT["dependencies"] if name_of(text) == "deepspeed"]
    low, high = (tuple(map(int, part.split("."))) for part in re.findall(r"[\d.]+", bound))
    installed = tuple(map(int, importlib.metadata.version("deepspeed").split(".")[:2]))
    assert low <= installed < high, f"DeepSpeed {installed} against {bound}: run the tests of scaling.train on it first"


@pytest.mark.parametrize(
    ("module", "names", "used_by"),
    [
        (
            "deepspeed.runtime.zero.stage_1_and_2",
            ("single_partition_of_fp32_groups", "bit16_groups"),
            "checkpoints/portable_state",
        ),
        ("deepspeed.utils.mixed_precision_linkage", ("_hp_mapping",), "checkpoints/portable_state"),
        (
            "deepspeed.utils.tensor_fragment",
            ("lp_fragment_address", "hp_fragment_address"),
            "checkpoints/portable_state",
        ),
        ("deepspeed.comm.torch", ("build_shm_op",), "processes/process_group"),
        ("deepspeed.accelerator.real_accelerator", ("set_accelerator",), "processes/process_group"),
        ("deepspeed.runtime.zero.stage_1_and_2", ("refresh_fp32_params",), "checkpoints/portable_state"),
        (
            "deepspeed.runtime.engine",
            ("torch_autocast_enabled", "seq_data_parallel_group", "enable_backward_allreduce", "get_global_grad_norm"),
            "step/engine",
        ),
        ("deepspeed.runtime.zero.stage_1_and_2", ("unscale_and_clip_grads",), "step/engine"),
        ("deepspeed.runtime.constants", ("torch_autocast", "lower_precision_safe_modules"), "step/engine"),
    ],
)
def test_the_private_names_of_deepspeed_are_there(module: str, names: tuple[str, ...], used_by: str) -> None:
    """Read from its source, so that this fails first and says which name is gone."""
    folder = Path(str(importlib.metadata.distribution("deepspeed").locate_file("deepspeed")))
    text = folder.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text()
    ours = (ROOT / "scaling" / "train" / f"{used_by}.py").read_text()
    for name in names:
        assert name in ours, f"scaling/train/{used_by}.py no longer uses {name}; take it out of this test"
        version = importlib.metadata.version("deepspeed")
        assert name in text, f"DeepSpeed {version} has no {name} in {module}, which scaling/train/{used_by}.py uses"
