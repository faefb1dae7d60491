"""`python -m scaling`: every command of this project with what it answers; `python -m scaling NAME …` runs one.

The same commands are installed as `scaling-NAME`.
"""

import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from scaling.errors import UserError, did_you_mean, run_command
from scaling.readable import plain_table
from scaling.records.attempts.contract import LEAVE_SIGNALS

COMMANDS = {
    "launch": ("scaling.launch", "scaling.launch.command:main", "plan a study, train what is missing, draw the report"),
    "status": ("scaling.status", "scaling.status.command:main", "where a study stands, from its folder"),
    "train": ("scaling.train", "scaling.train.__main__:main", "train one run from its run.json"),
    "evaluate": ("scaling.evaluate", "scaling.evaluate.command:main", "score trained weights after the fact"),
    "data": ("scaling.data", "scaling.data.command:main", "make, build, index, check, select and look at shards"),
    "models": ("scaling.models", "scaling.models.__main__:main", "parameters, FLOPs and shapes of the model families"),
    "bench": ("scaling.bench", "scaling.bench.command:main", "measure input, training and inference on this machine"),
    "report": ("analysis", "analysis.__main__:main", "figures, tables and laws of finished studies"),
    "fit": ("analysis.fit", "analysis.fit:main", "scaling laws for any table of sizes and errors"),
    "weights": ("analysis.weights", "analysis.weights:main", "the first layers of trained weights as images"),
    "power": ("analysis.power", "analysis.power:main", "how many more seeds or sizes a comparison needs"),
}
"""Name -> module of `python -m`, its main function, and what it is for."""


def main(argv: Sequence[str] | None = None) -> int:
    """List the commands, or run the one that `argv` begins with; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        rows = [[f"python -m {module}", f"scaling-{name}", purpose] for name, (module, _, purpose) in COMMANDS.items()]
        print(plain_table(["command", "installed as", "what it does"], rows))
        print("\n--help explains each. Begin with: python -m scaling.launch sweeps/quickstart.yaml --dry-run")
        return 0
    if words[0] not in COMMANDS:
        raise UserError(f"{words[0]!r} is no command; {did_you_mean(words[0], COMMANDS)}")
    return _load(words[0])(words[1:])


def _load(name: str) -> Callable[[Sequence[str] | None], int]:
    module, _, function = COMMANDS[name][1].partition(":")
    found: Callable[[Sequence[str] | None], int] = getattr(importlib.import_module(module), function)
    return found


def _run(name: str) -> int:
    """What `python -m scaling.NAME` and the console script `scaling-NAME` call. The command is imported inside, so that
    Ctrl-C is answered in a word from the beginning."""
    return _run_to_the_end(lambda argv: _load(name)(argv))


def _run_to_the_end(body: Callable[[Sequence[str] | None], int]) -> int:
    """`run_command` for the last thing that this process does."""
    code = run_command(body)
    # All is done and said; one more signal, while the interpreter ends, would turn the exit code into another one.
    for number in (signal.SIGINT, *LEAVE_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    return code


launch, status, train, evaluate, data, models, bench, report, fit, weights, power = (
    partial(_run, name) for name in COMMANDS
)

if __name__ == "__main__":
    sys.exit(_run_to_the_end(main))
