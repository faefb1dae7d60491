"""Imports point one way, for every package: proven in fresh interpreters, so through other modules too, and read from
the source, so that an import hidden in a function counts as well."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SHARED = {"scaling", "scaling.errors", "scaling.installed", "scaling.plain_json", "scaling.readable"}
"""Modules outside of rooms; they import nothing of ours but each other."""

DATA = ("scaling.data.format", "scaling.data.storage")

READS = (*DATA, "scaling.data.select", "scaling.data.read")

PLANS = ("scaling.records", "scaling.spec", *DATA, "scaling.data.select", "scaling.models", "scaling.evals")

ALLOWED: dict[str, tuple[str, ...]] = {
    "scaling.records": (),
    "scaling.spec": ("scaling.records",),
    "scaling.data.format": ("scaling.records", "scaling.data.storage", "scaling.data.select"),
    "scaling.data.storage": ("scaling.records",),
    "scaling.data.select": (),
    "scaling.data.read": ("scaling.records", *DATA, "scaling.data.select"),
    "scaling.data.tools": ("scaling.records", *READS),
    "scaling.jft_like": ("scaling.records", *DATA, "scaling.data.tools"),
    "scaling.models": (),
    "scaling.evals": ("scaling.records", "scaling.models", *READS, "scaling.data.tools"),
    "scaling.plan": PLANS,
    "scaling.train": ("scaling.records", "scaling.models", "scaling.evals", *READS),
    "scaling.launch": (*PLANS, "scaling.plan", "scaling.train", "scaling.jft_like"),
    "scaling.evaluate": (*PLANS, "scaling.plan", "scaling.data", "scaling.launch", "scaling.train"),
    "scaling.status": ("scaling.records",),
    "scaling.bench": (*PLANS, "scaling.plan", "scaling.data.read", "scaling.train", "scaling.launch"),
    "analysis.first_layer_maps": ("scaling.records",),
    "analysis.runs": ("scaling.records",),
    "analysis.laws": ("scaling.records", "analysis.runs"),
    "analysis.comparison": ("scaling.records", "analysis.runs", "analysis.laws"),
    "analysis.figures": (
        *("scaling.records", "analysis.runs", "analysis.laws", "analysis.comparison"),
        *("analysis.published", "analysis.first_layer_maps"),
    ),
    "analysis.report": (
        *("scaling.records", "analysis.runs", "analysis.laws", "analysis.comparison", "analysis.figures"),
        *("analysis.published", "analysis.first_layer_maps"),
    ),
    "analysis.published": ("scaling.records", "analysis.runs", "analysis.laws", "analysis.comparison"),
}
"""What the modules of a room may load of the others, directly or through others."""

HEAVY = {"torch", "torchvision", "timm", "deepspeed", "ray"}

MAY_BE_HEAVY = {
    *("scaling.data.read", "scaling.models", "scaling.evals", "scaling.train", "scaling.evaluate", "scaling.bench"),
}

LIGHT_PARTS = [
    *("scaling.models.registry", "scaling.models.cpu_arithmetic", "scaling.evals.settings", "scaling.train.entry"),
    "scaling.evaluate.command",
    *("scaling.__main__", "analysis.__main__", "analysis.fit", "analysis.power", "analysis.weights"),
]
"""Modules of heavy rooms that planning loads, and commands."""


def modules_of(room: str) -> list[str]:
    folder = ROOT / Path(*room.split("."))
    files = [path for path in sorted(folder.rglob("*.py")) if path.name != "__main__.py"]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


def loaded_modules(*names: str) -> set[str]:
    """`sys.modules` of a fresh interpreter that imported these modules."""
    imports = "; ".join(f"import {name}" for name in names)
    code = f"import sys; {imports}; print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def foreign(names: set[str], room: str) -> set[str]:
    """Modules of ours among `names` that `room` may not load; packages above an allowed room come with it."""
    allowed = (room, *ALLOWED[room])
    above = {".".join(name.split(".")[:length]) for name in allowed for length in range(1, name.count(".") + 1)}
    return {
        name
        for name in names
        if name.partition(".")[0] in ("scaling", "analysis")
        and name not in SHARED | above
        and not any(f"{name}.".startswith(f"{part}.") for part in allowed)
    }


def test_every_package_has_its_rule() -> None:
    """A new room is entered above before it is used."""
    folders = {path.parent for package in ("scaling", "analysis") for path in (ROOT / package).rglob("__init__.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders} - {
        "scaling",
        "analysis",
        "scaling.data",
    }
    missing = {name for name in packages if not any(f"{name}.".startswith(f"{room}.") for room in ALLOWED)}
    assert not missing
    assert all((ROOT / Path(*room.split("."))).is_dir() for room in ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_loads_only_what_stands_below_it(room: str) -> None:
    loaded = loaded_modules(*modules_of(room))
    assert not foreign(loaded, room)
    if room not in MAY_BE_HEAVY:
        assert not loaded & HEAVY


@pytest.mark.parametrize("module", LIGHT_PARTS)
def test_commands_and_what_planning_asks_load_no_heavy_library(module: str) -> None:
    assert not loaded_modules(module) & HEAVY


def test_the_order_of_samples_needs_numpy_alone() -> None:
    others = {"torch", "PIL", "scipy", "pandas", "fsspec", "webdataset", "matplotlib", "pyarrow"}
    assert not loaded_modules(*modules_of("scaling.data.select")) & others


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: write imports with their whole path"
            folder = ROOT / Path(*node.module.split("."))
            for alias in node.names:
                is_module = (folder / f"{alias.name}.py").exists() or (folder / alias.name).is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_a_hidden_import_follows_the_same_rule(room: str) -> None:
    folder = ROOT / Path(*room.split("."))
    for path in sorted(folder.rglob("*.py")):
        # What `python -m` runs stands above all rooms and is imported by none: it starts a command from their list.
        above = {"scaling.__main__"} if path.name == "__main__.py" else set()
        wrong = foreign(imports_of(path) - above, room)
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


BACKENDS = [
    name.name for name in sorted((ROOT / "scaling/launch/backends").iterdir()) if (name / "__init__.py").exists()
]


@pytest.mark.parametrize("name", BACKENDS)
def test_back_ends_never_import_each_other(name: str) -> None:
    """Nor does one load Ray or PyTorch before it is asked for anything."""
    room = "scaling.launch.backends"
    others = tuple(f"{room}.{other}." for other in BACKENDS if other != name)
    assert len(others) >= 2
    loaded = loaded_modules(*modules_of(f"{room}.{name}"))
    assert not [module for module in loaded if module.startswith(others)] and not loaded & HEAVY
    for path in (ROOT / Path(*room.split(".")) / name).glob("*.py"):
        assert not [module for module in imports_of(path) if f"{module}.".startswith(others)]


def test_the_rules_can_fail() -> None:
    assert foreign({"scaling.data.read.loader", "scaling.data", "scaling.errors"}, "scaling.data.select") == {
        "scaling.data.read.loader"
    }
    assert foreign({"analysis.report.page"}, "analysis.runs") == {"analysis.report.page"}
    assert "scaling.records.study" in loaded_modules("scaling.status.command")
