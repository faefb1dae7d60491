"""`--check`: does an existing report still say what the records say?

A fresh report is made in a temporary folder and compared file by file. For tables the changed cells are named.
"""

import tempfile
from pathlib import Path

import pandas as pd

from analysis.report.make_report import make_report
from analysis.report.options import ReportOptions
from analysis.runs.load import Records
from scaling.errors import UserError

_MAX_CHANGES = 5
"""Changed cells named per table."""


def check_report(records: Records, existing: Path, metric: str | None, options: ReportOptions) -> int:
    """Print the differences; 0 when there are none, 1 otherwise."""
    if not (existing / "index.html").exists():
        raise UserError(f"{existing} holds no report (index.html); make one by leaving out --check")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        make_report(records, fresh, metric, options)
        changes = differences(existing, fresh)
    print("\n".join(changes) if changes else f"{existing}: up to date")
    return 1 if changes else 0


def differences(existing: Path, fresh: Path) -> list[str]:
    """One line per file that is new, gone or changed, with the changed cells of tables."""
    names = sorted({path.name for folder in (existing, fresh) for path in folder.iterdir() if path.is_file()})
    lines = []
    for name in names:
        old, new = existing / name, fresh / name
        if not new.exists():
            lines.append(f"{name}: no longer made")
        elif not old.exists():
            lines.append(f"{name}: missing from the report")
        elif old.read_bytes() != new.read_bytes():
            lines.append(f"{name}: changed")
            if name.endswith(".csv"):
                lines += [f"  {change}" for change in table_changes(pd.read_csv(old), pd.read_csv(new))]
    return lines


def table_changes(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """The changed cells in words, at most `_MAX_CHANGES` of them."""
    if list(old.columns) != list(new.columns):
        gained, gone = sorted(set(new.columns) - set(old.columns)), sorted(set(old.columns) - set(new.columns))
        return [f"columns gained: {', '.join(gained) or 'none'}; gone: {', '.join(gone) or 'none'}"]
    if len(old) != len(new):
        return [f"{len(old)} rows in the report, {len(new)} in the records"]
    changes = []
    for column in old.columns:
        differs = ~((old[column] == new[column]) | (old[column].isna() & new[column].isna()))
        for row in old.index[differs]:
            changes.append(f"{old.iloc[row, 0]}, {column}: {old.loc[row, column]} -> {new.loc[row, column]}")
    return changes[:_MAX_CHANGES] + ([f"and {len(changes) - _MAX_CHANGES} more"] if len(changes) > _MAX_CHANGES else [])
