"""Scores of weights of other makers: a damaged record costs its own cells of `runs.csv`, and changes no other."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.evaluate.weights_records import WEIGHTS_FILE, WeightsRecord, runs_csv
from tests.records.damage.finished_study import FinishedStudy, evaluation_of
from tests.records.damage.kinds import CONTENTS, PLACES, damages, flipped

NAMES = ("fewshot", "other")


def record(out: Path, study: FinishedStudy, digest: str, accuracy: float) -> Path:
    """The folder of weights that were scored by two evaluations."""
    plan = study.plans[0]
    (asked,) = plan.evals
    folder = out / f"mixer_32px-{digest[:8]}"
    evals = tuple(asked.model_copy(update={"name": name}) for name in NAMES)
    WeightsRecord(
        source="w.safetensors",
        weights_sha256=digest,
        model="mixer",
        family="mixer",
        image_size=32,
        precision="fp32",
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        num_params=1,
        flops_forward_per_image=1.0,
        num_images=1000,
        evals=evals,
    ).save(folder)
    for one in evals:
        evaluation_of(
            plan,
            accuracy,
            run_id=folder.name,
            name=one.name,
            digest=one.digest(),
            weights_sha256=digest,
            metrics={f"{one.name}/2shot_top1": accuracy},
        ).save(folder)
    return folder


def cells(out: Path) -> dict[tuple[str, str], str]:
    """By weights and column, without empty ones."""
    rows = csv.DictReader(io.StringIO(runs_csv(out)))
    return {(row["run_id"], name): value for row in rows for name, value in row.items() if value}


@pytest.fixture
def out(study: FinishedStudy, tmp_path: Path) -> Path:
    for number, accuracy in ((1, 0.25), (2, 0.75)):
        record(tmp_path, study, f"{number}" * 64, accuracy)
    return tmp_path


@pytest.mark.parametrize("name", [WEIGHTS_FILE, "evals/fewshot.json"])
def test_a_damaged_record_costs_its_own_cells_alone(name: str, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = cells(out)
    victim, other = sorted(out.iterdir())
    content = (victim / name).read_bytes()
    for kind in (*CONTENTS, "of another run", *PLACES):
        caplog.clear()
        dict(damages(victim / name, other / name))[kind]()
        found = cells(out)
        assert found.items() <= whole.items(), kind
        lost = {run_id for run_id, column in whole.keys() - found.keys()}
        assert lost == {victim.name}, kind
        assert ((victim.name, "other/2shot_top1") in found) == (name != WEIGHTS_FILE), kind
        assert str(victim / name) in caplog.text or "link" in kind, kind
        if (victim / name).is_dir():
            (victim / name).rmdir()
        (victim / name).unlink(missing_ok=True)
        (victim / name).write_bytes(content)
    assert cells(out) == whole


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([WEIGHTS_FILE, "evals/fewshot.json"]), bit=st.integers(0, 2**15))
def test_no_flipped_bit_changes_a_cell(name: str, bit: int, out: Path) -> None:
    whole = cells(out)
    path = sorted(out.iterdir())[0] / name
    content = path.read_bytes()
    path.write_bytes(flipped(content, bit))
    found = cells(out)
    path.write_bytes(content)
    assert found.items() <= whole.items()
