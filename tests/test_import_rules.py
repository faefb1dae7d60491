"""Imports point one way, proven in fresh interpreters: what plans, reads or analyses never loads PyTorch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "deepspeed", "ray")

LIGHT_MODULES = [
    "scaling.errors",
    "scaling.records.study",
    "scaling.records.events",
    "scaling.spec.sweep",
    "scaling.plan.identity",
    "scaling.data.format.manifest",
    "scaling.data.select.subset",
    "scaling.data.select.order",
    "scaling.data.format.index",
    "scaling.jft_like.make",
    "scaling.evals.settings",
    "scaling.models.registry",
    "scaling.train.entry",
    "scaling.launch.command",
    "scaling.launch.backends.local",
    "scaling.status.command",
    "analysis.__main__",
    "analysis.weights",
]

FORBIDDEN = {
    "scaling.records": (
        "scaling.spec",
        "scaling.data",
        "scaling.models",
        "scaling.train",
        "scaling.evals",
        "scaling.launch",
    ),
    "scaling.spec": ("scaling.data", "scaling.models", "scaling.train", "scaling.evals", "scaling.launch"),
    "scaling.data": ("scaling.spec", "scaling.models", "scaling.train", "scaling.evals", "scaling.launch"),
    "scaling.models": ("scaling.spec", "scaling.data", "scaling.train", "scaling.evals", "scaling.launch"),
    "scaling.evals": ("scaling.spec", "scaling.train", "scaling.launch"),
    "scaling.train": ("scaling.spec", "scaling.launch"),
    "analysis": ("scaling.spec", "scaling.data", "scaling.models", "scaling.train", "scaling.evals", "scaling.launch"),
}
"""What the modules of a package may not load, directly or through others."""


def loaded_modules(*names: str) -> set[str]:
    """`sys.modules` of a fresh interpreter that imported these modules."""
    imports = "; ".join(f"import {name}" for name in names)
    code = f"import sys; {imports}; print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_modules_load_no_heavy_library(module: str) -> None:
    assert not loaded_modules(module) & set(HEAVY)


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_import_only_what_stands_below_them(package: str) -> None:
    """Read from the source, so that an import hidden in a function counts too."""
    folder = Path(__file__).parent.parent / Path(*package.split("."))
    files = sorted(folder.rglob("*.py"))
    assert files
    for path in files:
        wrong = {name for name in imports_of(path) for bad in FORBIDDEN[package] if f"{name}.".startswith(f"{bad}.")}
        assert not wrong, f"{path.name} imports {sorted(wrong)}"
