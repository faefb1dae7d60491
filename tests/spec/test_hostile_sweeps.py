"""Sweep files that were written to break things: one sentence, exit code 2, at once and in little memory."""

import itertools
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import UserError
from scaling.spec.plain_yaml import MAX_VALUES, YamlProblem, read_yaml, write_yaml
from scaling.spec.study import Study, load_study
from scaling.spec.sweep import RunSpec, expand
from tests.support.planning import DryRun, make_dry_run

SWEEP = """\
study: hostile
question: Größe?
data: {root: DATA, train: train.json, val: val.json}
protocol: {kind: constant_steps, steps: 60, batch: 32}
defaults: {learning_rate: 3.0e-4, augment: flip}
grid: {model: [mixer-laptop-32px], fraction: [1.0], seed: [0]}
"""

LETTERS = "abcdefghijklmnop"

BOMB = "&a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in itertools.pairwise(LETTERS)
)
MERGE_BOMB = "&a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}], {new}: 1}}\n" for old, new in itertools.pairwise(LETTERS)
)


def edited(old: str, new: str) -> str:
    assert old in SWEEP
    return SWEEP.replace(old, new)


HOSTILE = {
    "alias bomb": (SWEEP + "a: " + BOMB, "values, aliases written out"),
    "merge bomb": (SWEEP + "a: " + MERGE_BOMB, "values, aliases written out"),
    "recursive anchor": (edited("augment: flip", "model_options: &o {a: *o}"), "is inside the value that it names"),
    "merge of itself": (edited("augment: flip", "model_options: &o {<<: *o}"), "is inside the value that it names"),
    "deep list": (edited("Größe?", "[" * 100_000), "maximum nesting depth"),
    "deep mapping": (edited("Größe?", "{a: " * 500), "nested more than"),
    "deep block": (SWEEP + "x:\n" + "".join(" " * depth + "x:\n" for depth in range(1, 500)), "nested more than"),
    "grid of 10^9": (
        edited("seed: [0]", ", ".join(f"{n}: {list(range(1000))}" for n in ("seed", "clip", "mixup"))),
        "runs",
    ),
    "batch of 10^12": (edited("batch: 32", "batch: 1000000000000"), "protocol.batch"),
    "steps beyond 2^63": (edited("steps: 60", "steps: 9223372036854775808"), "2^63"),
    "steps beyond 10^12": (edited("steps: 60", "steps: 9223372036854775807"), "1e+12"),
    "steps of a large batch": (edited("steps: 60, batch: 32", "steps: 900000000000, batch: 9999360"), "10^18 examples"),
    "seed beyond 2^63": (edited("seed: [0]", "seed: ['9223372036854775808']"), "grid.seed[0]"),
    "study of 300 letters": (edited("study: hostile", "study: " + "n" * 300), "study:"),
    "model of 300 letters": (edited("mixer-laptop-32px", "m" * 300), "is not known"),
    "evaluation of 300 letters": (SWEEP + f"evals: [{{kind: throughput, name: {'e' * 300}}}]\n", "name:"),
    "key of 300 letters": (SWEEP + "k" * 300 + ": 1\n", "a key of 300 characters"),
    "5,000 digits": (edited("steps: 60", "steps: " + "9" * 5000), "a number of 5,000 characters"),
    "5,000 digits in quotes": (edited("seed: [0]", f"seed: ['{'9' * 5000}']"), "grid.seed[0]"),
    "5,000 hexadecimal digits": (edited("steps: 60", "steps: 0x" + "f" * 5000), "a number of 5,002 characters"),
    "not a number": (edited("3.0e-4", ".nan"), "must be finite"),
    "infinity": (edited("3.0e-4", "-.inf"), "must be finite"),
    "1e400": (edited("3.0e-4", "1e400"), "must be finite"),
    "1e400 in quotes": (edited("3.0e-4", "'1e400'"), "finite number"),
    "two megabytes": (SWEEP + "#" * 2_000_000, "more than 1,000,000 bytes"),
    "a long text": (edited("Größe?", "x" * 100_000), "a text of 100,000 characters"),
    "control character": (edited("Größe?", '"\\0"'), "control character"),
    "tag": (edited("3.0e-4", "!!python/object/apply:os.system [ls]"), "tags"),
    "two documents": (SWEEP + "---\nstudy: again\n", "second document"),
    "number as key": (SWEEP + "1: 2\n", "quote it"),
    "null as section": (edited("{root: DATA, train: train.json, val: val.json}", "null"), "data"),
    "patterns": (SWEEP + f"exclude: [{{model: '{'*a' * 500}'}}]\n", "fits no run"),
}


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_sweep_is_refused_at_once(name: str, tiny_data: Path, tmp_path: Path, dry_run: DryRun) -> None:
    text, expected = HOSTILE[name]
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(text.replace("DATA", json.dumps(str(tiny_data))))
    started = time.process_time()
    tracemalloc.start()
    code, told = dry_run(sweep)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if expected == "finds its data":
        assert (code, told) == (0, "")
    else:
        assert code == 2
        assert told.startswith("error: ") and told.count("\n") == 1 and len(told) < 2500
        assert expected in told
    assert peak_bytes < 100e6
    # Tracing memory makes it several times slower; the machine may be busy with other tests.
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("latin-1", "sweep.yaml:2: the byte 0xf6"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-32", "UTF-16")],
)
def test_another_encoding_is_named(encoding: str, expected: str, tmp_path: Path, dry_run: DryRun) -> None:
    (tmp_path / "sweep.yaml").write_bytes(SWEEP.encode(encoding))
    code, told = dry_run(tmp_path / "sweep.yaml")
    assert code == 2 and expected in told and "save it as UTF-8" in told and told.count("\n") == 1


def test_a_byte_order_mark_is_no_part_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_bytes(SWEEP.encode("utf-8-sig"))
    assert load_study(tmp_path / "sweep.yaml")[0].study == "hostile"


def test_a_grid_is_counted_before_it_is_built(tmp_path: Path) -> None:
    values = list(range(1000))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    options = [f"grid.{name}={values}" for name in ("seed", "patience", "subset_seed")]
    study, document = load_study(tmp_path / "sweep.yaml", options)
    started = time.process_time()
    with pytest.raises(UserError, match=r"1 x 1 x 1,000 x 1,000 x 1,000 values make 1e\+09 runs; .* 100,000"):
        expand(study, document)
    assert time.process_time() - started < 1


def test_anchors_and_merge_keys_do_what_yaml_says() -> None:
    text = "base: &b {x: 1, y: [2, 3]}\nnew: {<<: *b, x: 4}\nboth: {<<: [{x: 5}, *b]}\nsame: [*b, *b]\n"
    data, lines = read_yaml(text)
    assert data == yaml.safe_load(text)
    assert data["same"][0] is not data["same"][1]
    assert lines["new", "x"] == 2


def test_numbers_are_those_of_json_and_words_stay_words() -> None:
    words = ["2026-01-01", "010", "1:30", "yes", "off", "1.2.3", "0x", "-", ".", "e5", "1e", "_1", "+.e3"]
    assert read_yaml(write_yaml(words))[0] == words
    assert read_yaml("[" + ", ".join(words) + "]")[0] == words
    numbers = {
        "3e-4": 3e-4,
        "1E+2": 100.0,
        "-.5": -0.5,
        "1.": 1.0,
        "500_000": 500_000,
        "0x1F": 31,
        "-0": 0,
        "1_0.5": 10.5,
    }
    for text, value in numbers.items():
        assert read_yaml(text)[0] == value and type(read_yaml(text)[0]) is type(value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_what_is_frozen_is_read_back(value: Any) -> None:
    """PyYAML's own dumper quotes by YAML 1.1 and leaves texts bare that are numbers to the reader."""
    assert read_yaml(write_yaml(value))[0] == value


@pytest.mark.parametrize("text", ["0E0", "3e-4", "1E5", "0o7", "1_0", "-.inf", ".5e3", "null", "TRUE", "~", "010"])
def test_texts_that_look_like_numbers_stay_texts_in_the_frozen_sweep(text: str) -> None:
    assert read_yaml(write_yaml({"study": text, text: [text]}))[0] == {"study": text, text: [text]}


WORDS = [
    *(
        "study",
        "data",
        "root",
        "train",
        "val",
        "protocol",
        "kind",
        "constant_steps",
        "steps",
        "batch",
        "defaults",
        "grid",
    ),
    *(
        "model",
        "fraction",
        "seed",
        "zip",
        "include",
        "exclude",
        "overrides",
        "match",
        "set",
        "evals",
        "fewshot",
        "launch",
    ),
    *(
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "'",
        '"',
        "|\n",
        "? ",
        "#",
    ),
    *(
        "0",
        "-1",
        "1e400",
        ".nan",
        "9" * 400,
        "2%",
        "null",
        "true",
        "~",
        "\x00",
        "\ud7ff",
        "\t",
        "%YAML 1.1\n---\n",
        "x" * 300,
    ),
]


def read(path: Path, content: bytes) -> list[RunSpec] | str:
    """The runs of a sweep, or the one sentence of its refusal."""
    path.write_bytes(content)
    try:
        return expand(*load_study(path))
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 2500
        return str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(SWEEP)), st.integers(0, 12), st.sampled_from(WORDS)), max_size=6))
def test_edited_sweeps_are_read_or_refused(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    text = SWEEP
    for start, length, word in edits:
        text = text[:start] + word + text[start + length :]
    read(tmp_path / "sweep.yaml", text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS), max_size=40), tail=st.binary(max_size=8))
def test_words_in_any_order_are_read_or_refused(tmp_path: Path, words: list[str], tail: bytes) -> None:
    read(tmp_path / "sweep.yaml", "".join(words).encode("utf-8", "surrogatepass") + tail)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=st.sampled_from(sorted(Study.model_fields)), value=PLAIN)
def test_any_plain_value_in_any_section_is_read_or_refused(tmp_path: Path, section: str, value: Any) -> None:
    body = yaml.safe_load(SWEEP) | {section: value}
    read(tmp_path / "sweep.yaml", yaml.safe_dump(body, allow_unicode=True).encode())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([word for word in WORDS if "<<" not in word]), max_size=30))
def test_the_reader_agrees_with_pyyaml_on_structure(words: list[str]) -> None:
    """Whatever we read is YAML; lists and mappings stand where PyYAML sees them."""
    text = "".join(words)
    try:
        value, _ = read_yaml(text)
    except YamlProblem:
        return
    loaded = yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    assert shape(value) == shape(loaded)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else ""


def test_the_bound_on_values_counts_what_aliases_stand_for() -> None:
    half = MAX_VALUES // 2
    assert len(read_yaml("&a [" + "1," * (half - 10) + "]")[0]) == half - 10
    with pytest.raises(YamlProblem, match="aliases written out"):
        read_yaml("[&a [" + "1," * (half - 10) + "], *a, *a]")
