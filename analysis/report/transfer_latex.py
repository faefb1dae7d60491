"""The table of transfer as LaTeX for a paper, in the layout of the Mixer paper's Tables 2 and 3.

Rows of one source stand together under its name. What a cell says in brackets (the device of a rate, the unit of a
cost, runs that lack a score) becomes a letter whose meaning is told once, in the caption, so that the table is narrow
and its numbers stand in line. It is made smaller where it is still wider than the page.
"""

import re
from itertools import groupby
from string import ascii_lowercase

import pandas as pd

from analysis.report.tables import latex_text

PREAMBLE = r"% In the preamble: \usepackage{booktabs,graphicx}"

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""As wide as the line where the table is wider, and else as it is."""

SHORT = 12
"""Characters of a heading that stays in one line."""

TIED = "\u00a0"

_TEXTS = ("pre-trained on", "model")
"""Columns of words, which stand at the left and keep what they say in brackets."""

_BRACKETED = re.compile(r"(?P<value>.+?) \((?P<note>[^()]+)\)(?P<mark>[^\w()]*)")


def transfer_latex(printed: pd.DataFrame, caption: str, label: str) -> str:
    """A booktabs table of `TransferTable.printed`."""
    columns = [name for name in printed.columns if name != "source"]
    sources = printed["source"] if "source" in printed else pd.Series("", index=printed.index)
    notes: dict[str, str] = {}
    rows = [[_cell(name, str(row[name]), notes) for name in columns] for _, row in printed.iterrows()]
    body: list[str] = []
    for source, group in groupby(zip(sources, rows, strict=True), key=lambda entry: str(entry[0])):
        body.append(r"\midrule")
        if source:
            body += [rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{latex_text(source)}}}}} \\", r"\addlinespace[2pt]"]
        body += [" & ".join(row) + r" \\" for _, row in group]
    told = "; ".join(f"{_raised(letter)} {latex_text(note)}" for note, letter in notes.items())
    places = "".join("l" if name in _TEXTS else "r" for name in columns)
    return "\n".join(
        [PREAMBLE, r"\begin{table}", r"\centering", FIT, rf"\begin{{tabular}}{{{places}}}", r"\toprule",
         " & ".join(map(_heading, columns)) + r" \\", *body, r"\bottomrule", r"\end{tabular}}",
         rf"\caption{{{latex_text(caption)}{'. ' + told if told else ''}}}", rf"\label{{{label}}}", r"\end{table}", ""]
    )  # fmt: skip


def _cell(column: str, text: str, notes: dict[str, str]) -> str:
    """A cell; a new note gets the next letter."""
    found = None if column in _TEXTS else _BRACKETED.fullmatch(text)
    if found is None:
        return latex_text(text)
    letter = notes.setdefault(found["note"], _letter(len(notes)))
    return rf"{latex_text(found['value'] + found['mark'])}\rlap{{{_raised(letter)}}}"


def _letter(number: int) -> str:
    """a, …, z, aa, ab, …"""
    high, low = divmod(number, len(ascii_lowercase))
    return (_letter(high - 1) if high else "") + ascii_lowercase[low]


def _raised(letter: str) -> str:
    return f"$^{{{letter}}}$"


def _heading(column: str) -> str:
    """A long heading in two lines, cut where these are most alike in length; a unit stays with its word."""
    words = column.replace(", %", f",{TIED}%").split(" ")
    if column in _TEXTS or len(words) == 1 or len(column) <= SHORT:
        return latex_text(column)
    cuts = [(" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words))]
    upper, lower = min(cuts, key=lambda cut: max(map(len, cut)))
    return rf"\shortstack[r]{{{_tied(upper)}\\{_tied(lower)}}}"


def _tied(line: str) -> str:
    return "~".join(map(latex_text, line.split(TIED)))
