"""Every record of a study under every damage: no traceback, no changed number, and the other run goes on."""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.runs.load import load_records
from analysis.runs.rows import read_rows
from scaling.errors import run_command
from scaling.launch.command import main as launch
from scaling.launch.dry_run import describe_plan, plan_as_json
from scaling.launch.price.rates import measured_rates
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.plan.planner import Planner
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.evaluation import Evaluation
from scaling.records.events import Event, EventWriter
from scaling.records.files import content_digest, write_text_atomic
from scaling.records.ownership.lease import Lease
from scaling.records.run_plan import RunPlan
from scaling.records.scheduler_word import RunWord, SchedulerWord
from scaling.records.state import RunState, Status
from scaling.spec.document import Document
from scaling.spec.study import load_study
from scaling.status.command import main as status
from tests.support.scripted_backend import result_of
from tests.support.tiny_study import TINY_SWEEP

NUM_STEPS = 30


def finish(run_dir: Path, plan: RunPlan, accuracy: float) -> None:
    """All records of a run that went well."""
    claim_attempt(run_dir)
    with EventWriter(run_dir / "events.jsonl") as writer:
        for step in range(0, NUM_STEPS + 1, 5):
            validation = {"upstream/loss": 1.5, "upstream/precision_at_1": accuracy}
            writer.write(
                Event(
                    run_id=plan.run_id,
                    attempt=1,
                    kind="start" if not step else "eval" if step % 10 == 0 else "step",
                    step=step,
                    examples_seen=16 * step,
                    unique_examples=min(16 * step, plan.subset.num_samples),
                    flops=1.0 * step,
                    train_seconds=1.0,
                    pause_seconds=0.1,
                    device="cpu",
                    num_devices=1,
                    precision="fp32",
                    metrics={} if not step else validation if step % 10 == 0 else {"loss": 2.0},
                )
            )
    append_end(run_dir, End(attempt=1, cause=Cause.DONE, code=0, step=NUM_STEPS))
    RunState(status=Status.DONE, attempt=1, step=NUM_STEPS).save(run_dir)
    result = result_of(plan, accuracy)
    result.save(run_dir)
    evaluation_of(plan, accuracy).save(run_dir)
    lease = Lease(run_dir)
    lease.acquire(beats=False)
    left_behind = (run_dir / "lease").read_bytes()
    lease.release()
    (run_dir / "lease").write_bytes(left_behind)


def evaluation_of(plan: RunPlan, accuracy: float, **changes: Any) -> Evaluation:
    """The record of the plan's evaluation."""
    (asked,) = plan.evals
    values: dict[str, Any] = {
        "run_id": plan.run_id,
        "identity": plan.identity,
        "name": asked.name,
        "kind": asked.kind,
        "digest": asked.digest(),
        "weights_sha256": "0" * 64,
        "metrics": {f"{asked.name}/2shot_top1": accuracy},
        "device": "cpu",
        "num_devices": 1,
        "precision": "fp32",
        "threads": 1,
        "packages": {},
        "version": "0",
        "git_commit": "",
        "git_dirty": False,
        "seconds": 1.0,
    }
    return Evaluation(**values | changes)


class FinishedStudy:
    """A study of two finished runs, copied afresh for each damage."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.sweep = folder / "tiny.yaml"
        self.sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(data))).replace("seed: [0]", "seed: [0, 1]"))
        study, self.document = load_study(self.sweep, ())
        self.plans = Planner(study, self.document).plan()
        self.sound = folder / "sound" / "tiny"
        write_study(self.sound, self.document, self.plans)
        for plan, accuracy in zip(self.plans, (0.25, 0.75), strict=True):
            finish(self.sound / plan.run_id, plan, accuracy)
        self.victim, self.other = (plan.run_id for plan in self.plans)
        SchedulerWord(scheduler="Slurm", runs={self.other: RunWord(phase="gone", unix_time=0.0)}).save(self.sound)
        self.table = self.numbers(self.sound)

    def copy(self, out: Path) -> Path:
        shutil.copytree(self.sound, out / "tiny")
        return out / "tiny"

    def standings(self, study_dir: Path) -> list[PlannedRun]:
        return find_standings(study_dir, self.plans)

    @staticmethod
    def numbers(study_dir: Path) -> pd.DataFrame:
        """What figures and tables are made from: a row per run, and the logs."""
        records = load_records([study_dir])
        rows, _ = read_rows(records.run_dirs.values())
        logs = rows.to_pandas().groupby("run_id").agg(lambda column: tuple(column.dropna())) if rows.num_rows else None
        table = records.runs.set_index("run_id")
        return table if logs is None else table.join(logs.add_prefix("log "))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> FinishedStudy:
    return FinishedStudy(tmp_path_factory.mktemp("finished"), tiny_data)


RUN_FILES = (
    *("run.json", "state.json", "result.json", "events.jsonl", "ends.jsonl", "attempts/1.json"),
    *("evals/fewshot.json", "lease", "stop", "job.json", "trained.json"),
)
STUDY_FILES = ("study.yaml", "plan.json", "scheduler.json", "models.json", "micro_batches.json")


def content_of(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b'{"a": 1}\n'


def with_schema_99(content: bytes) -> bytes:
    """A later version of the record, its digest right."""
    try:
        value = json.loads(content)
    except ValueError:
        return content.replace(b'"schema": 2', b'"schema": 99')
    for name in value:
        value[name] = 99 if name.endswith("_schema") else value[name]
    if value.pop("content_sha256", None):
        value["content_sha256"] = content_digest(value)
    return json.dumps(value).encode()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "torn": lambda content: content[: len(content) // 2],
    "bit flip": lambda content: flipped(content, 4 * len(content)),
    "a list": lambda content: b"[1, 2]",
    "a text": lambda content: b'"hello"',
    "null": lambda content: b"null",
    "schema": with_schema_99,
    "NaN": lambda content: b'{"a": NaN}',
    "nested": lambda content: b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "huge number": lambda content: b'{"a": 1' + b"0" * 6000 + b', "status": 1e999}',
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "twice": lambda content: content + content,
}


def in_its_place(path: Path, what: str) -> None:
    """Something that is no file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "file":
        path.write_bytes(b"")
    elif what == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path.name if what == "link to itself" else "nowhere")


PLACES = ("folder", "link to itself", "dangling link", "pipe", "endless")


def damages(study: FinishedStudy, path: Path, other: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and actions; each spoils `path`, whose twin of the sound run is `other`."""
    content = content_of(path)
    for name, spoil in CONTENTS.items():
        yield name, lambda spoil=spoil: path.write_bytes(spoil(content))  # type: ignore[misc]
    yield "of another run", lambda: path.write_bytes(content_of(other))
    for place in PLACES:
        yield place, lambda place=place: in_its_place(path, place)  # type: ignore[misc]


def look(study: FinishedStudy, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """All commands that read a study; nothing may be raised. Returns the status of each run that is listed."""
    assert run_command(status, [str(folder)]) in (0, 1)
    capsys.readouterr()
    assert run_command(status, [str(folder), "--json"]) in (0, 1)
    listed = {row["run_id"]: row for row in json.loads(capsys.readouterr().out)}
    runs = study.standings(folder)
    rates = measured_rates(folder.parent, runs)
    assert describe_plan(runs, rates)
    assert len(json.loads("".join(plan_as_json(runs, rates)))) == 2
    return listed


def check_numbers(study: FinishedStudy, folder: Path, spoiled: set[str]) -> None:
    """Every number is that of the sound study or missing, and it is missing only where a record is spoiled."""
    found = study.numbers(folder)
    for run_id in study.table.index:
        if run_id not in spoiled:
            assert run_id in found.index
    for run_id, row in found.iterrows():
        for name, value in study.table.loc[run_id].items():
            here = row.get(name)
            is_missing = here is None or (isinstance(here, float) and pd.isna(here))
            if isinstance(value, tuple) and run_id in spoiled:
                assert is_missing or set(here) <= set(value), (name, here)
            elif not (is_missing and (run_id in spoiled or pd.isna(value))):
                assert here == value, (name, here, value)


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_damaged_record_costs_its_own_run_alone(
    name: str,
    study: FinishedStudy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number, kind in enumerate([*CONTENTS, "of another run", *PLACES]):
        folder = study.copy(tmp_path / str(number))
        path = folder / study.victim / name
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            dict(damages(study, path, folder / study.other / name))[kind]()
            listed = look(study, folder, capsys)
            assert listed[study.other]["status"] == "done", kind
            check_numbers(study, folder, {study.victim})
        told = caplog.text + json.dumps(listed)
        harmless = name in (
            "state.json",
            "lease",
            "stop",
            "job.json",
            "trained.json",
            "attempts/1.json",
            "events.jsonl",
            "ends.jsonl",
        )
        is_changed = not path.is_file() or path.read_bytes() != content_of(study.sound / study.victim / name)
        if not harmless and kind != "dangling link" and is_changed:
            assert name in told, kind  # a person can find the file
        # Planning again repairs what follows from the sweep, or says what is in the way.
        try:
            write_study(folder, Document(study.sweep, study.document.data), study.plans)
        except OSError as error:
            assert kind in PLACES and str(path) in f"{error.filename} {error.filename2}", error
        else:
            assert study.victim in look(study, folder, capsys)
            check_numbers(study, folder, {study.victim} if name != "run.json" else set())


@pytest.mark.parametrize("name", ["attempts", "evals", "checkpoints", "../trained", "../jobs", ""])
def test_what_lies_in_the_place_of_a_folder_costs_its_own_run_alone(
    name: str, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("file", *PLACES[1:4]):
        folder = study.copy(tmp_path / place)
        path = Path(os.path.normpath(folder / study.victim / name))
        in_its_place(path, place)

        def plan_again(argv: Sequence[str] | None) -> int:
            write_study(Path((argv or [""])[0]), Document(study.sweep, study.document.data), study.plans)
            return 0

        command = [str(study.sweep), "--set", "grid.seed=[0,1]", "--dry-run", "--json", "--out", str(folder.parent)]
        assert run_command(status, [str(folder), "--json"]) in (0, 1)
        (row,) = [row for row in json.loads(capsys.readouterr().out) if row["run_id"] == study.other]
        assert row["status"] == "done"
        assert run_command(launch, command) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2
        check_numbers(study, folder, {study.victim})
        capsys.readouterr()
        code = run_command(plan_again, [str(folder)])
        assert not code or str(path) in capsys.readouterr().err
        assert code == (0 if name else 2)  # Nothing else can be done about a run without a folder.


def test_a_folder_in_the_place_of_the_sweep_is_named(
    study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study.copy(tmp_path) / "study.yaml"
    in_its_place(path, "folder")
    assert run_command(lambda argv: write_text_atomic(path, "") or 0) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("name", STUDY_FILES)
def test_a_damaged_file_of_the_study_changes_no_run(
    name: str, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, kind in enumerate([*CONTENTS, *PLACES]):
        folder = study.copy(tmp_path / str(number))
        dict(damages(study, folder / name, folder / name))[kind]()
        listed = look(study, folder, capsys)
        assert {row["status"] for row in listed.values()} == {"done"}, kind
        check_numbers(study, folder, set())


def test_the_commands_themselves_say_one_sentence(
    study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*RUN_FILES, "../plan.json"):
        for kind in ("torn", "folder"):
            folder = study.copy(tmp_path / f"{name.replace('/', '-')} {kind}")
            path = folder / study.victim / name
            dict(damages(study, path, path))[kind]()
            code = run_command(launch, [str(study.sweep), "--dry-run", "--json", "--out", str(folder.parent)])
            assert code == 0
            rows = json.loads(capsys.readouterr().out)
            assert [row["standing"] for row in rows if row["plan"]["run_id"] == study.other] == ["done"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*RUN_FILES[:7], "../plan.json"]), bit=st.integers(0, 2**20))
def test_no_flipped_bit_changes_a_number(
    study: FinishedStudy, tmp_path_factory: pytest.TempPathFactory, name: str, bit: int
) -> None:
    folder = study.copy(tmp_path_factory.mktemp("flip"))
    path = folder / study.victim / name
    path.write_bytes(flipped(path.read_bytes(), bit))
    check_numbers(study, folder, {study.victim})
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "another-run-00000000"),
        ("identity", "f" * 64),
        ("steps", 29),
        ("steps", 31),
        ("stopped_early", True),
        ("best_step", 31),
        ("examples_seen", 1),
        ("unique_examples", 7),
        ("flops", -1.0),
        ("train_seconds", -1.0),
        ("train_seconds", float("inf")),
        ("device_hours", 1e9),
        ("images_per_second", -5.0),
        ("images_per_second", 1e12),
        ("num_devices", 0),
        ("attempts", 0),
        ("precision", "bf16"),
        ("metrics", {"upstream/precision_at_1": 7.0}),
        ("metrics", {"upstream/precision_at_1": -0.1}),
        ("metrics", {"upstream/loss": -1.0}),
        ("metrics", {"upstream/loss": float("nan")}),
        ("metrics", {"upstream/loss": "low"}),
    ],
)
def test_a_result_that_cannot_be_is_told_and_left_out(
    field: str, value: object, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with its digest made right."""
    folder = study.copy(tmp_path)
    path = folder / study.victim / "result.json"
    rewrite(path, field, value)
    row = look(study, folder, capsys)[study.victim]
    assert row["status"] == "failed" and str(path) in row["error"]
    assert "remove the file and launch the study again" in row["error"]
    assert study.victim not in study.numbers(folder).index
    check_numbers(study, folder, {study.victim})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "another-run-00000000"),
        ("identity", "f" * 64),
        ("name", "another"),
        ("digest", "f" * 64),
        ("weights_sha256", "f" * 64),
        ("metrics", {"fewshot/2shot_top1": 7.0}),
        ("metrics", {"fewshot/2shot_top1": -0.5}),
        ("metrics", {"fewshot/images_per_second": -1.0}),
        ("metrics", {"fewshot/images_per_second": float("inf")}),
        ("metrics", {"upstream/precision_at_1": 0.99}),
        ("seconds", -1.0),
        ("num_devices", 0),
    ],
)
def test_an_evaluation_that_cannot_be_of_this_run_gives_no_number(
    field: str, value: object, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study.copy(tmp_path)
    rewrite(folder / study.victim / "evals" / "fewshot.json", field, value)
    row = look(study, folder, capsys)[study.victim]
    assert row["status"] == "done, to be scored"
    assert row["metrics"] == {"upstream/precision_at_1": 0.25, "upstream/loss": 1.0}
    check_numbers(study, folder, {study.victim})


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "many"},
        {"step": -1},
        {"step": 2**70},
        {"attempt": None},
        {"flops": float("inf")},
        {"train_seconds": "x"},
        {"kind": ["eval"]},
        {"metrics": [1]},
        {"metrics": {"loss": {"deep": 1}}},
        {"metrics": {"loss": "low"}},
        {"run_id": 5},
    ],
)
def test_a_sealed_row_of_wrong_types_is_left_out(changes: dict[str, Any], study: FinishedStudy, tmp_path: Path) -> None:
    folder = study.copy(tmp_path)
    path = folder / study.victim / "events.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    row = json.loads(rest[0])
    del row["crc32"]
    text = json.dumps(row | changes).replace("Infinity", "1e999")
    path.write_bytes(first + resealed(text) + b"".join(rest))
    check_numbers(study, folder, {study.victim})


def resealed(text: str) -> bytes:
    """A line with its own CRC-32, as a hostile writer would make it."""
    body = text[:-1]
    return f'{body}, "crc32": "{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def rewrite(path: Path, field: str, value: object) -> None:
    """Change one field of a record and make its digest right again."""
    record = json.loads(path.read_text())
    del record["content_sha256"]
    record[field] = value
    try:
        digest = content_digest(record)
    except ValueError:  # NaN and infinity have no canonical JSON
        digest = "0" * 64
    path.write_text(json.dumps({**record, "content_sha256": digest}))
