"""A held-out set of the same classes in another numbering, made fit as the refusal says, is scored right."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter

from scaling.data.command import main as data_command
from scaling.errors import UserError
from scaling.launch.study_dir import find_standings, write_study
from scaling.plan.planner import Planner
from scaling.records.study import load_run
from scaling.spec.study import load_study
from tests.support.local_runs import train_all
from tests.support.tiny_study import encode

COLOURS = {"cat": (220, 30, 30), "dog": (30, 220, 30), "emu": (30, 30, 220), "fox": (220, 220, 30)}
BACKWARDS = list(reversed(COLOURS))

SWEEP = """\
study: numbering
data: {{root: {root}, train: train/manifest.json, val: {val}}}
protocol: {{kind: constant_steps, steps: 30, batch: 16}}
defaults: {{learning_rate: 3.0e-3, warmup: 10%, validate_every: 30, checkpoint_every: 30}}
grid: {{model: [mixer-laptop-32px], fraction: [1.0], seed: [0]}}
evals: [{{kind: upstream, name: mapped, test: mapped.json}}, {{kind: upstream, name: backwards, test: numbers.json}}]
"""


def image(name: str, generator: np.random.Generator) -> bytes:
    return encode(np.clip(np.array(COLOURS[name]) + generator.normal(0, 25, (24, 24, 3)), 0, 255).astype(np.uint8))


def command(*words: object) -> None:
    assert data_command([str(word) for word in words]) == 0


def test_a_held_out_set_numbered_backwards_is_refused_and_scores_near_one_once_it_is_aligned(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in COLOURS:
        for number in range(40):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image(name, generator))
    command("build", tmp_path / "photos", tmp_path / "train")
    with TarWriter(str(tmp_path / "val.tar")) as writer:
        for number in range(80):
            name = BACKWARDS[number % 4]
            writer.write({"__key__": f"{number}", "png": image(name, generator), "cls": str(number % 4)})
    (tmp_path / "names.json").write_text(json.dumps(BACKWARDS))
    (tmp_path / "mapping.txt").write_text("".join(f"{BACKWARDS.index(name)}\t{name}\n" for name in COLOURS))
    command("index", tmp_path / "val.tar", "--out", tmp_path / "named.json", "--classes", tmp_path / "names.json")
    command("index", tmp_path / "val.tar", "--out", tmp_path / "mapped.json", "--classes", tmp_path / "mapping.txt")
    command("index", tmp_path / "val.tar", "--out", tmp_path / "numbers.json")
    sweep = tmp_path / "sweep.yaml"

    sweep.write_text(SWEEP.format(root=json.dumps(str(tmp_path)), val="named.json"))
    study, document = load_study(sweep)
    with pytest.raises(UserError, match=r"another order: class 0 is 'cat' in .* and 'fox' in named\.json") as refusal:
        Planner(study, document).plan()
    told = re.search(r"'python -m scaling.data build SOURCE OUT --classes (\S+)'", str(refusal.value))
    assert told is not None

    command("build", tmp_path / "named.json", tmp_path / "val", "--classes", tmp_path / told[1])
    sweep.write_text(SWEEP.format(root=json.dumps(str(tmp_path)), val="val/manifest.json"))
    study, document = load_study(sweep)
    plans = Planner(study, document).plan()
    write_study(tmp_path / "study", document, plans)
    (run,) = runs = find_standings(tmp_path / "study", plans)
    train_all(runs)
    metrics = load_run(run.run_dir).metrics
    assert metrics["upstream/precision_at_1"] > 0.95
    assert metrics["mapped/precision_at_1"] > 0.95
    assert metrics["backwards/precision_at_1"] < 0.05, "meaningless labels, whose numbers alone could not be compared"
