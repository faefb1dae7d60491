"""Every record of a study under every damage: no traceback, no changed number, and the other run goes on."""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import run_command
from scaling.launch.command import main as launch
from scaling.launch.study_dir import write_study
from scaling.records.files import write_text_atomic
from scaling.spec.document import Document
from scaling.status.command import main as status
from tests.records.damage.finished_study import FinishedStudy, check_numbers, look
from tests.records.damage.kinds import CONTENTS, PLACES, content_of, damages, flipped, in_its_place

RUN_FILES = (
    *("run.json", "state.json", "result.json", "events.jsonl", "ends.jsonl", "attempts/1.json"),
    *("evals/fewshot.json", "lease", "stop", "job.json", "trained.json"),
)
STUDY_FILES = ("study.yaml", "plan.json", "scheduler.json", "models.json", "micro_batches.json")


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
            dict(damages(path, folder / study.other / name))[kind]()
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
        dict(damages(folder / name, folder / name))[kind]()
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
            dict(damages(path, path))[kind]()
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
