"""Rows of `python -m scaling.bench inference --search-batch`: how fast one model is, alone on one device.

A file of them (`runs/<study>/throughput.jsonl`, or any other) has one row a line, append-only, each with its own
checksum; a later row about the same thing replaces an earlier one. Rows may be compared when they share a `place`: kind
of work, device, precision, threads, compilation and software.
"""

import json
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from scaling.errors import UserError
from scaling.records.files import append_line, content_digest, open_regular
from scaling.records.reading import Frozen, is_intact, seal_line
from scaling.records.run_dir import StudyDir

logger = logging.getLogger(__name__)

THROUGHPUT_SCHEMA = 1

MAX_FILE_BYTES = 64 * 2**20
"""A row is about 2 kB."""

Work = Literal["inference", "training"]

Rate = Annotated[float, Field(gt=0)]
"""Images per second."""

Count = Annotated[int, Field(ge=1)]


class TimedWork(Frozen):
    """What is timed: a forward pass of frozen weights, or a training step (forward, backward, clipping, optimiser)."""

    model: str
    image_size: Count
    """Side of the square input, pixels."""
    num_classes: Count
    options: dict[str, Any] = Field({})
    """Of the model."""
    work: Work
    precision: Literal["fp32", "bf16"]
    """bf16 is PyTorch's autocast; weights stay fp32."""
    compile_mode: str = "none"
    """`none`, or the mode of `torch.compile`."""
    channels_last: bool = True
    """Memory layout of the images."""
    optimizer: str = ""
    """Of a training step; empty for inference."""
    drop_path: float = 0.0
    """Stochastic-depth rate in training; 0 for inference."""
    activation_checkpointing: bool = False
    """In training."""


class Place(NamedTuple):
    """What rates must share to be compared."""

    work: str
    device: str
    precision: str
    threads: int
    """Of the CPU arithmetic."""
    compile_mode: str
    software: str


class ThroughputRow(TimedWork):
    """One model measured, alone on one device in a process of its own. Rates are images per second."""

    throughput_schema: int = THROUGHPUT_SCHEMA
    images_per_second: Rate
    """Median of `rates`."""
    lower_quartile: Rate
    upper_quartile: Rate
    rates: tuple[Rate, ...]
    """Of every repeat at the best batch."""
    repeat_seconds: Rate
    """Least length of a repeat."""
    batch: Count
    """The fastest that was tried."""
    search: tuple[tuple[int, float], ...]
    """Every batch size tried with its rate, in order."""
    search_rule: str
    search_end: str
    """Why no larger batch was tried."""
    timer: Literal["CUDA events", "wall clock"]
    memory_gb: float | None = None
    """Most memory of a GPU that PyTorch held at the best batch, 10^9 bytes; None on a CPU."""
    device: str
    """As its driver reports it."""
    threads: Count
    load_average: float | None = None
    """Of the machine over the last minute, at the end of the measurement; its own load is part of it."""
    disturbances: tuple[str, ...] = ()
    """What else the machine did meanwhile, in words; empty for a quiet machine."""
    hardware: dict[str, Any] = Field({})
    packages: dict[str, str]
    version: str
    """Of this harness."""
    git_commit: str = ""
    git_dirty: bool = False
    unix_time: float

    @property
    def software(self) -> str:
        return software_of(self.packages, self.version)

    @property
    def place(self) -> Place:
        return Place(self.work, self.device, self.precision, self.threads, self.compile_mode, self.software)

    @property
    def key(self) -> str:
        """Digest of what was measured where: equal for repetitions of one measurement."""
        return key_of(self, self.place)

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        quartiles = quartiles_of(self.rates)
        told = (self.lower_quartile, self.images_per_second, self.upper_quartile)
        if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(quartiles, told, strict=True)):
            raise ValueError("median and quartiles are not those of rates")
        if self.batch not in [batch for batch, _ in self.search]:
            raise ValueError(f"batch {self.batch} is none that was tried")
        return self


def software_of(packages: Mapping[str, str], version: str) -> str:
    """`torch 2.6.0, timm 1.0.15, scaling-study 0.1.0`; a torch wheel names its CUDA, or implies it."""
    return f"torch {packages.get('torch', 'unknown')}, timm {packages.get('timm', 'unknown')}, scaling-study {version}"


def key_of(timed: TimedWork, place: Place) -> str:
    """Digest of a measurement before it is made."""
    return content_digest([{name: getattr(timed, name) for name in TimedWork.model_fields}, list(place)])


def quartiles_of(rates: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; of one rate three times itself."""
    low, middle, high = statistics.quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else [*rates] * 3
    return low, middle, high


def append_row(path: Path, row: ThroughputRow) -> None:
    """Add a row; on the disk when this returns."""
    append_line(path, seal_line(row.model_dump(mode="json")))


def read_rows(path: Path) -> list[ThroughputRow]:
    """The latest row of each measurement, in the order first measured; damaged lines are told and left out.

    FileNotFoundError without a file; UserError when it cannot be read or no line of it is a row.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UserError(f"{path}: more than {MAX_FILE_BYTES // 2**20} MiB are no throughput rows")
        lines = content.splitlines()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    rows: dict[str, ThroughputRow] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _parse(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        rows[row.key] = row
    if problems and not rows:
        raise UserError(
            f"{path}: {problems[0]}; give a file that scaling.bench inference --search-batch --rows FILE wrote"
        )
    for problem in problems:
        logger.warning("%s, %s; the line is left out", path, problem)
    return list(rows.values())


def study_rows(study_dirs: Iterable[Path]) -> tuple[ThroughputRow, ...]:
    """What the studies' own files hold (`launch: {throughput: after}`); of one measurement the last counts. A file that
    cannot be read is told and left out."""
    rows: dict[str, ThroughputRow] = {}
    for folder in sorted(study_dirs):
        try:
            found = read_rows(StudyDir(folder).throughput)
        except FileNotFoundError:
            continue
        except UserError as error:
            logger.warning("%s; its throughput is left out", error)
            continue
        for row in found:
            if row.key not in rows or rows[row.key].unix_time < row.unix_time:
                rows[row.key] = row
    return tuple(rows.values())


def _parse(line: bytes) -> ThroughputRow:
    """ValueError for a line that no measurement wrote."""
    if not is_intact(line):
        raise ValueError("damaged, or no row of throughput")
    value = json.loads(line)
    value.pop("crc32")
    schema = value.get("throughput_schema")
    if schema != THROUGHPUT_SCHEMA:
        raise ValueError(f"throughput_schema is {str(schema)[:20]}, this version reads {THROUGHPUT_SCHEMA}")
    try:
        return ThroughputRow.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
