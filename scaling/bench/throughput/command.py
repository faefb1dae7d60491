"""Each model alone on its device: what to measure, one process after another, rows kept as they come.

The file of rows makes it safe to stop and to start again: a row is on the disk when it is done, what the file holds is
not measured again, and two commands on one file take turns.
"""

import argparse
import fcntl
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scaling.bench.command import model_settings
from scaling.bench.throughput.order import Order, timed_work
from scaling.bench.throughput.plans import plans_of_models, threads_of, trained_runs
from scaling.bench.throughput.search import FIRST_BATCH
from scaling.bench.throughput.surroundings import gpu_model
from scaling.bench.throughput.worker import Devices, Measurer, take_devices
from scaling.errors import UserError
from scaling.models.cpu_arithmetic import cpu_name
from scaling.readable import plain_table
from scaling.records.attempts.provenance import describe_harness_source, describe_packages
from scaling.records.files import open_to_append, write_text_atomic
from scaling.records.run_dir import StudyDir
from scaling.records.run_plan import RunPlan
from scaling.records.scores.throughput import Place, ThroughputRow, Work, append_row, key_of, read_rows, software_of

WORKS: tuple[Work, ...] = ("inference", "training")

HEADERS = ["model", "work", "images/s", "quartiles", "batch", "precision", "compile", "threads", "measured"]


def run_alone(args: argparse.Namespace) -> int:
    """Measure what is missing and print all rows asked for; 1 when a model could not be measured."""
    plans, threads, path = _what(args)
    orders = list(_orders(args, plans, threads))
    with _turn(path):
        known = (
            {} if args.again or path is None else _known(path, is_of_study=args.study is not None and args.rows is None)
        )
        rows, failed = _measure(orders, known, path, threads)
    print(_table(rows))
    for device in dict.fromkeys(row.device for row in rows):
        print(f"on {device}; {rows[0].software}; {rows[0].search_rule}")
    if any(row.disturbances for row in rows):
        print("some of this machine was busy: --again measures anew when it is quiet", file=sys.stderr)
    if args.json is not None:
        write_text_atomic(args.json, json.dumps([row.model_dump(mode="json") for row in rows], indent=2) + "\n")
    return 1 if failed else 0


def _what(args: argparse.Namespace) -> tuple[list[RunPlan], int, Path | None]:
    """Plans of what is to be timed, threads, and the file of rows."""
    if args.study is None:
        if not args.models:
            raise UserError("--search-batch: name the models (--models NAME ...), or a study (--study STUDY_DIR)")
        args.precision = args.precision or "fp32"
        return plans_of_models(args.models, [*model_settings(args), *args.set]), args.threads or 1, args.rows
    for name, given in (("--precision", args.precision), ("--image-size", args.image_size), ("--set", args.set)):
        if given:
            raise UserError(f"{name}: --study measures what that study trains; name models instead (--models)")
    runs = trained_runs(args.study)
    rows = args.rows or StudyDir(args.study).throughput
    return [run.plan for run in runs], args.threads or threads_of(runs), rows


def _orders(args: argparse.Namespace, plans: Sequence[RunPlan], threads: int) -> Iterator[Order]:
    """One for each different thing to be timed."""
    seen = set()
    for plan in plans:
        for work in WORKS[: 2 if args.training else 1]:
            timed = timed_work(plan, work, args.compile)
            if timed.model_dump_json() not in seen:
                seen.add(timed.model_dump_json())
                yield Order(
                    timed=timed,
                    model=plan.model,
                    recipe=plan.recipe,
                    device=args.device,
                    threads=threads,
                    first_batch=args.batch or FIRST_BATCH,
                    largest_batch=max(args.largest_batch, args.batch or FIRST_BATCH),
                    repeats=args.repeats,
                    seconds=args.seconds,
                )


def _measure(
    orders: Sequence[Order], known: dict[str, ThroughputRow], path: Path | None, threads: int
) -> tuple[list[ThroughputRow], int]:
    """Rows in the order asked for, and how many could not be had."""
    devices: Devices | None = None
    measurer: Measurer | None = None
    rows, failed = [], 0
    for number, order in enumerate(orders, start=1):
        devices = devices or take_devices(order.device, threads)
        row = known.get(_key(order, devices))
        told = "measured before: "
        if row is None:
            measurer, told = measurer or Measurer(devices, threads), ""
            try:
                row = measurer.measure(order)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
                continue
            if path is not None:
                append_row(path, row)
        rows.append(row)
        print(f"[{number}/{len(orders)}] {told}{_line(row)}", file=sys.stderr, flush=True)
    return rows, failed


def _key(order: Order, devices: Devices) -> str:
    """Of the row that this measurement would give."""
    device = gpu_model(devices.gpu.uuid) if devices.gpu else cpu_name()
    timed = order.timed
    software = software_of(describe_packages(), describe_harness_source().version)
    place = Place(timed.work, device, timed.precision, order.threads, timed.compile_mode, software)
    return key_of(timed, place)


def _known(path: Path, *, is_of_study: bool) -> dict[str, ThroughputRow]:
    """Rows that were measured before. UserError for a file without any that the user named, to which nothing should be
    added; in a study's own file such lines are damaged, and measured again."""
    try:
        return {row.key: row for row in read_rows(path)}
    except FileNotFoundError:
        return {}
    except UserError as error:
        if not is_of_study:
            raise
        print(f"{str(error).partition(';')[0]}; measured again", file=sys.stderr, flush=True)
        return {}


@contextmanager
def _turn(path: Path | None) -> Iterator[None]:
    """Wait until no other command writes the file."""
    if path is None:
        yield
        return
    if not path.parent.is_dir():
        raise UserError(f"--rows {path}: the folder {path.parent} does not exist; make it first")
    with open_to_append(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path} is being written by another measurement; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _line(row: ThroughputRow) -> str:
    marks = f"; disturbed: {'; '.join(row.disturbances)}" if row.disturbances else ""
    return (
        f"{row.model}, {row.work}: {row.images_per_second:,.0f} images/s ({row.lower_quartile:,.0f}-"
        f"{row.upper_quartile:,.0f}) at batch {row.batch}{marks}"
    )


def _table(rows: Sequence[ThroughputRow]) -> str:
    cells = [
        [
            row.model,
            row.work,
            f"{row.images_per_second:,.1f}",
            f"{row.lower_quartile:,.1f}-{row.upper_quartile:,.1f}",
            str(row.batch),
            row.precision,
            row.compile_mode,
            str(row.threads),
            "; ".join(row.disturbances) or "on a quiet machine",
        ]
        for row in rows
    ]
    return plain_table(HEADERS, cells)
