"""Images named by the rows of a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import LabelType
from scaling.data.tools.label_table import LabelTable
from scaling.data.tools.sources.source import NO_OPTIONS, LeftOut, SourceOptions, read_file
from scaling.data.tools.tables import ReadRows, RepeatedRows


class TableSource:
    """Rows of an image's path, relative to the table's folder, and its labels (see `label_table`)."""

    def __init__(self, path: Path, read_rows: ReadRows, options: SourceOptions = NO_OPTIONS) -> None:
        self._path, self._read_rows, self._ignore = path, read_rows, options.ignore
        self.left_out: dict[str, LeftOut] = {}
        table = LabelTable(options.label_type, options.classes, lambda row: f"{path}, row {row}")
        repeated = RepeatedRows(path)
        for row in read_rows(path):
            if self._ignore.matches(row.path):
                self.left_out.setdefault("rows ignored as told", LeftOut()).add(row.path)
                continue
            table.add(row.number, row.labels)
            repeated.add(row)
        self.num_repeated = repeated.count
        self.resolved = table.resolve()
        self.classes: Sequence[str] = self.resolved.classes
        self.label_type: LabelType = self.resolved.label_type
        self.class_counts: NDArray[np.int64] | None = self.resolved.class_counts
        self.num_unlabelled = self.resolved.num_unlabelled

    def references(self) -> Iterator[tuple[str, list[int]]]:
        for row in self._read_rows(self._path):
            if not self._ignore.matches(row.path):
                yield row.path, self.resolved.of(row.labels or [])

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, labels = reference
        return read_file(self._path.parent / path), labels
