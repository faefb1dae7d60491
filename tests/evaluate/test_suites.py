"""Suites: taken apart into evaluations, and put together again only when every member is there."""

import json
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.evaluate.asked import Wish, asked_evaluations
from scaling.plan.suite import load_suite, read_suite, shipped_suites, suite_members
from scaling.records.scores.suites import suite_metrics, suite_scores

SUITE = """\
suite: small
prepare: make {member}
score: 1shot_top1
evaluation: {kind: fewshot, shots: [1]}
members:
  - {name: a, group: left, support: train.json, test: val.json}
  - {name: b, group: left, support: val.json, test: train.json, shots: [2, 1]}
  - {name: c, group: right, support: train.json, test: val.json, shots: [1, 3]}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SUITE)
    return tmp_path / "small.yaml"


def test_vtab_has_its_tasks_groups_and_exceptions() -> None:
    suite = load_suite("vtab-1k")
    assert {group: len(names) for group, names in suite.groups.items()} == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    augment = {keys["name"].partition(".")[2]: keys["augment"] for keys, _ in suite_members(suite, "vtab-1k", {})}
    assert {name for name, kind in augment.items() if kind in ("none", "crop")} == {
        "dsprites_location",
        "dsprites_orientation",
        "smallnorb_azimuth",
    }
    assert {name for name, kind in augment.items() if kind in ("none", "flip")} == {
        "clevr_count",
        "clevr_distance",
        "dmlab",
        "kitti_distance",
        "dsprites_location",
    }
    keys, place = suite_members(suite, "vtab", {"root": "/data/vtab"})[0]
    assert keys["train"] == "/data/vtab/caltech101/train800val200.json" and keys["name"] == "vtab.caltech101"
    assert place.score == "top1"
    assert (keys["dev_train"], keys["dev"]) == (
        "/data/vtab/caltech101/train800.json",
        "/data/vtab/caltech101/val200.json",
    )


EXPECTED_BY_VTAB = {
    # task_adaptation at d2a72ed, task_adaptation/data/*_test.py: classes and test images.
    "caltech101": (102, 6084),
    "cifar100": (100, 10000),
    "dtd": (47, 1880),
    "flowers102": (102, 6149),
    "pets": (37, 3669),
    "sun397": (397, 21750),
    "svhn": (10, 26032),
    "patch_camelyon": (2, 32768),
    "eurosat": (10, 5400),
    "resisc45": (45, 6300),
    "diabetic_retinopathy": (5, 42670),
    "clevr_count": (8, 15000),
    "clevr_distance": (6, 15000),
    "dmlab": (6, 22735),
    "smallnorb_azimuth": (18, 12150),
    "smallnorb_elevation": (9, 12150),
    # Classes: scripts/run_all_tasks.sh.
    "dsprites_location": (16, 73728),
    "dsprites_orientation": (16, 73728),
    # Images: the split test of kitti:3.1.0 in the catalogue of TensorFlow Datasets.
    "kitti_distance": (4, 711),
}


def test_vtab_has_the_counts_that_its_authors_expect() -> None:
    members = load_suite("vtab-1k").members
    assert {one.name: (one.num_classes, one.splits["test"]) for one in members} == EXPECTED_BY_VTAB
    for one in members:
        assert (one.splits["train800"], one.splits["val200"], one.splits["train800val200"]) == (800, 200, 1000)


@pytest.mark.parametrize("name", shipped_suites())
def test_every_shipped_suite_can_be_read(name: str) -> None:
    suite = load_suite(name)
    assert suite.suite == name and len(suite_members(suite, name, {})) == len(suite.members)


def test_a_mean_is_that_of_all_members_or_none(suite: Path, tiny_data: Path) -> None:
    plans = asked_evaluations(Wish(words=(str(suite),), root=str(tiny_data)))
    assert [plan.name for plan in plans] == ["small.a", "small.b", "small.c"]
    assert plans[1].settings["shots"] == [2, 1] and all(plan.added for plan in plans)
    metrics = {"small.a/1shot_top1": 0.2, "small.b/1shot_top1": 0.4, "small.b/2shot_top1": 0.9}
    (found,) = suite_scores(plans, metrics)
    assert found.missing == ("c",)
    assert suite_metrics(plans, metrics) == {"small/left_mean_1shot_top1": pytest.approx(0.3)}
    metrics["small.c/1shot_top1"] = 0.9
    whole = suite_metrics(plans, metrics)
    assert whole["small/mean_1shot_top1"] == pytest.approx(0.5) and whole["small/right_mean_1shot_top1"] == 0.9
    # A chosen part of a suite has no mean, whatever is known of its members.
    assert suite_scores(plans[:2], metrics)[0].missing == ("c",)


def test_data_that_is_not_what_the_suite_says_is_refused(tmp_path: Path, tiny_data: Path) -> None:
    manifest = json.loads((tiny_data / "train.json").read_text())
    num_classes = len(manifest["classes"])
    for facts, told in (
        (f"splits: {{train: 3}}, num_classes: {num_classes}", "images, and NAME 3 .suite own, member NAME"),
        ("num_classes: 3", "classes, and NAME 3 .suite own, member NAME"),
    ):
        (tmp_path / "own.yaml").write_text(
            "suite: own\nscore: 1shot_top1\nevaluation: {kind: fewshot, shots: [1]}\n"
            f"members: [{{name: {tiny_data.name}, support: {tiny_data.name}/train.json, "
            f"test: {tiny_data.name}/val.json, {facts}}}]\n"
        )
        with pytest.raises(UserError, match=told.replace("NAME", tiny_data.name)):
            asked_evaluations(Wish(words=(str(tmp_path / "own.yaml"),), root=str(tiny_data.parent)))


def test_a_score_that_no_evaluation_measures_is_refused(suite: Path, tiny_data: Path) -> None:
    """Given by the suite or beside it, and for a member whose own settings leave it out."""
    for option, told in (
        ("score=nonsense", "score: 'nonsense' is nothing that fewshot measures .* known: 1shot_top1, .*member a"),
        ("shots=[10]", "score: '1shot_top1' is nothing that fewshot measures .* did you mean '10shot_top1'"),
        ("score=2shot_top1", "score: '2shot_top1' is nothing .*member a"),
        ("score=images_per_second", "is nothing that fewshot measures"),
    ):
        with pytest.raises(UserError, match=told):
            asked_evaluations(Wish(words=(str(suite),), options=(option,), root=str(tiny_data)))
    options = ("score=2shot_top1", "shots=[2, 3]")
    plans = asked_evaluations(Wish(words=(str(suite),), options=options, root=str(tiny_data)))
    assert {plan.suite.score for plan in plans if plan.suite} == {"2shot_top1"}
    suite.write_text(SUITE.replace("1shot_top1", "top1"))
    with pytest.raises(UserError, match="score: 'top1' is nothing"):
        asked_evaluations(Wish(words=(str(suite),), root=str(tiny_data)))


def test_what_is_missing_or_unknown_is_named(suite: Path, tmp_path: Path, tiny_data: Path) -> None:
    with pytest.raises(
        UserError, match=r"suite small, member a; prepare it with 'make a', or name those that you have"
    ):
        asked_evaluations(Wish(words=(str(suite),), root=str(tmp_path)))
    with pytest.raises(UserError, match="suite small has no member 'd'"):
        asked_evaluations(Wish(words=(str(suite),), options=("members=[d]",), root=str(tiny_data)))
    with pytest.raises(UserError, match="'vtab' is no suite; did you mean 'vtab-1k'"):
        load_suite("vtab")
    suite.write_text(SUITE.replace("name: c", "name: a"))
    with pytest.raises(UserError, match="two members are named 'a'"):
        read_suite(suite)
