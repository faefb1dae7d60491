"""`python -m scaling.bench page`: BENCHMARKS.md from the figures in scaling/bench/results, never by hand."""

import argparse
import json
from pathlib import Path
from typing import Any

import scaling
from scaling.bench.command import new_file
from scaling.bench.page.sections import SECTIONS, Section
from scaling.errors import UserError
from scaling.records.files import write_text_atomic

RESULTS = Path(scaling.__file__).parent / "bench" / "results"

PAGE = Path(scaling.__file__).parent.parent / "BENCHMARKS.md"

HEAD = """\
# Benchmarks

Written by `python -m scaling.bench page` from the JSON files in [scaling/bench/results](scaling/bench/results), which
the commands below write with `--json`. A ratio is that to the named peer, both measured in turns in one call. Rates
drift with the machine and with what else runs on it; ratios are what to trust.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench page"
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of figures (default: the repository's)")
    parser.add_argument("--out", type=new_file, default=PAGE, help="default: BENCHMARKS.md of the repository")


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    write_text_atomic(args.out, make_page(args.results))
    print(args.out)
    return 0


def make_page(results: Path) -> str:
    """The page of all figures in a folder; UserError for a folder without any, and a file that is none of a
    benchmark's."""
    parts, paths = [HEAD], sorted(results.glob("*.json"), key=_place)
    if not paths:
        raise UserError(f"--results {results}: there is no file of figures (*.json); name the folder of some")
    for path in paths:
        figures = json.loads(path.read_text())
        parts.append(_text(SECTIONS[_kind(path)](figures), figures, path.name))
    names = sorted(path.name for path in results.glob("*.md") if path.name != "README.md")
    estimates = [f"- [{name}](scaling/bench/results/{name})" for name in names]
    if estimates:
        parts.append("\n".join(["## Estimates, by `python -m scaling.bench needs`", "", *estimates, ""]))
    return "\n".join(parts)


def _kind(path: Path) -> str:
    kind = path.stem.partition("-")[0]
    if kind not in SECTIONS:
        raise UserError(f"{path} is of no benchmark on the page; begin its name with one of {', '.join(SECTIONS)}")
    return kind


def _place(path: Path) -> tuple[int, str]:
    return list(SECTIONS).index(_kind(path)), path.stem


def _text(section: Section, figures: dict[str, Any], name: str) -> str:
    table = [section.columns, ("---",) * len(section.columns), *section.rows]
    return "\n".join(
        [
            f"## {section.title}",
            "",
            f"    python -m scaling.bench {section.command}",
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            *(f"- {remark}" for remark in section.remarks),
            f"- {_surroundings(figures)} (`{name}`)",
            "",
        ]
    )


def _surroundings(figures: dict[str, Any]) -> str:
    """Machine, versions, commit and load of a measurement, as far as it recorded them."""
    machine = figures.get("machine") or {name: figures[name] for name in ("cores", "python") if name in figures}
    told = [str(machine["processor"])] if "processor" in machine else []
    told += [f"{machine['cores']} cores"] if "cores" in machine else []
    told += [f"{name} {version}" for name, version in machine.items() if name not in ("processor", "cores")]
    commit = figures.get("git_commit", "")[:8]
    told.append(f"commit {commit}{' with changes' if figures.get('git_dirty') else ''}" if commit else "commit unknown")
    told.append(f"load {figures['load_at_the_end']:.1f}" if "load_at_the_end" in figures else "load unknown")
    return ", ".join(told)
