"""`python -m scaling` and the console scripts: every command is listed, installed and explains itself."""

import resource
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scaling.__main__ as commands
from scaling.errors import run_command
from tests.conftest import PlanTiny

ROOT = Path(__file__).parent.parent


def test_the_list_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([]) == 0
    listed = capsys.readouterr().out
    for name, (module, _, purpose) in commands.COMMANDS.items():
        assert f"python -m {module} " in listed and f"scaling-{name} " in listed and purpose in listed


def test_the_console_scripts_are_those_of_the_list() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {f"scaling-{name}": f"scaling.__main__:{name}" for name in commands.COMMANDS}
    assert all(callable(getattr(commands, name)) for name in commands.COMMANDS)


def test_every_module_that_runs_is_in_the_list() -> None:
    packages = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("*/*/__main__.py")}
    listed = {module for module, _, _ in commands.COMMANDS.values()}
    assert {name for name in packages if name.startswith(("scaling.", "analysis."))} <= listed


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_explains_itself_without_pytorch(name: str) -> None:
    code = f"import sys, scaling.__main__ as m; m.main([{name!r}, '--help'])"
    check = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
    answer = subprocess.run([sys.executable, "-c", check + code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("usage:") and answer.stdout.endswith("False\n")


def test_ctrl_c_is_answered_in_a_word_while_a_command_is_imported() -> None:
    """Another one when the word is said changes nothing."""
    code = "import scaling.__main__ as m, signal, sys; ask = lambda *_: signal.raise_signal(signal.SIGINT); "
    code += "m.importlib.import_module = ask; code = m.launch(); ask(); sys.exit(code)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_launcher_that_plans_is_stopped_in_a_word(
    number: signal.Signals, plan_tiny: PlanTiny, tmp_path: Path
) -> None:
    code = "import scaling.__main__ as m, scaling.launch.command as c, signal, sys; "
    code += f"c.ensure_data = lambda study: signal.raise_signal({int(number)}); sys.exit(m.launch())"
    plan_tiny()
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "runs")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (130, "interrupted\n")


def test_an_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(commands.main, ["lunch"]) == 2
    assert capsys.readouterr().err == "error: 'lunch' is no command; did you mean 'launch'?\n"


@pytest.mark.parametrize(
    ("limit", "value"), [(resource.RLIMIT_FSIZE, 1000), (resource.RLIMIT_NOFILE, 3)], ids=["file size", "open files"]
)
def test_a_limit_of_the_machine_is_one_sentence(limit: int, value: int, tmp_path: Path) -> None:
    """And what lay in the file before stays whole."""
    table, out = tmp_path / "curves.csv", tmp_path / "fits.json"
    table.write_text("images,loss\n" + "".join(f"{1000 * 2**n},{0.2 + 2 ** (-0.4 * n)}\n" for n in range(6)))
    code = f"import analysis.__main__, analysis.fit, resource, sys; resource.setrlimit({limit}, ({value}, {value})); "
    code += f"sys.exit(analysis.fit.main([*'--x images --y loss --alone --json'.split(), *{[str(out), str(table)]}]))"
    out.write_text("before\n")
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 2, answer
    assert answer.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in answer.stderr
    assert out.read_text() == "before\n"
