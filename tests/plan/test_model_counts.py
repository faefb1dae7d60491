"""The table of counts says what counting says, and a user's cache never outlives what its counts depend on."""

import json
import os
import random
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import scaling
from scaling.models.registry import default_image_size
from scaling.plan import count_models as counting
from scaling.plan.count_zoo import count_rows, zoo
from scaling.plan.zoo_counts import COUNTS, SAME_COUNT_OPTIONS, ModelFacts, ModelQuery, _table, zoo_facts

CHANGED_OPTIONS = {
    "mixer-laptop-32px": {
        "init": "timm",
        "head_init": "timm",
        "gelu": "exact",
        "drop_path_rule": "constant",
        "drop_path_rescale": True,
        "dropout": 0.3,
    },
    "vit-laptop-32px": {"position_init": "sincos2d"},
    "bit-laptop-32px": {"conv_eps": 1e-8},
}


def test_the_table_holds_every_named_model() -> None:
    assert set(_table()) == set(zoo())


def test_a_sample_of_the_table_is_counted_again(count_here: None) -> None:
    """`SCALING_COUNT_ALL=1` counts all of it, which takes two minutes."""
    models = zoo() if os.environ.get("SCALING_COUNT_ALL") else random.Random(0).sample(zoo(), 4)
    for row in count_rows(models):
        expected = [[int(row[name]), int(row[f"{name}_a_class"])] for name in counting_names()]
        assert [list(pair) for pair in _table()[row["model"], row["options"]]] == expected, row["model"]


def counting_names() -> tuple[str, ...]:
    return COUNTS


def test_the_table_is_exact_at_other_numbers_of_classes_and_for_options_that_count_nothing(count_here: None) -> None:
    assert {name for options in CHANGED_OPTIONS.values() for name in options} == SAME_COUNT_OPTIONS
    queries = [
        ModelQuery(name, default_image_size(name), 18_291, json.dumps(options))
        for name, options in CHANGED_OPTIONS.items()
    ]
    queries.append(ModelQuery("vit-laptop-32px", 32, 7, '{"pre_logits": "none"}'))
    # That dropout draws is for planning to know, from the setting.
    counted = [replace(facts, draws=False) for facts in counting.count(queries)]
    assert counted == [zoo_facts(query) for query in queries]


def test_what_the_table_does_not_hold_is_counted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    query = ModelQuery("mixer-laptop-32px", 64, 5)
    assert zoo_facts(query) is None
    first = counting.count_models([query])
    assert len(list(counting.cache_folder().iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(counting, "count", lambda queries: [pytest.fail("counted again") for _ in queries])
        assert counting.count_models([query]) == first


def test_a_corrected_count_arrives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other versions, other model code, a torn file or a changed number: what was kept is passed over."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    query = ModelQuery("mixer-laptop-32px", 64, 5)
    wrong, right = ModelFacts(1, 1, 1.0, 1.0), ModelFacts(2, 2, 2.0, 2.0)
    monkeypatch.setattr(counting, "count", lambda queries: [wrong for _ in queries])
    assert counting.count_models([query])[query] == wrong
    monkeypatch.setattr(counting, "count", lambda queries: [right for _ in queries])
    assert counting.count_models([query])[query] == wrong
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_versions", lambda: {"torch": "another"})
        assert counting.count_models([query])[query] == right
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_digest_of_models", lambda: "other code")
        counting._versions.cache_clear()
        assert counting.count_models([query])[query] == right
    counting._versions.cache_clear()
    for damaged in ('{"query": {}, "fac', json.dumps({"query": asdict(query), "facts": asdict(wrong)})):
        for path in counting.cache_folder().iterdir():
            path.write_text(damaged)
        assert counting.count_models([query])[query] == right


def test_a_change_anywhere_in_the_model_code_makes_counts_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(Path(scaling.__file__).parent / "models", tmp_path / "models")
    monkeypatch.setattr("scaling.plan.count_models.scaling.__file__", str(tmp_path / "__init__.py"))
    for path in sorted((tmp_path / "models").rglob("*.py")):
        before = counting._digest_of_models()
        path.write_text(path.read_text() + "#\n")
        assert counting._digest_of_models() != before, path


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(counting, "count", lambda queries: [ModelFacts(1, 1, 1.0, 1.0) for _ in queries])
    query = ModelQuery("mixer-laptop-32px", 64, 5)
    assert counting.count_models([query])[query].num_params == 1
