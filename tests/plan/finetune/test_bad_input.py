"""Fine-tuning that cannot be done is refused at planning, in one sentence with its place and a way out."""

import json
from pathlib import Path

import pytest

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.manifest import declare_manifest
from scaling.plan.finetune.planner import FineTunePlanner
from scaling.plan.planner import Planner
from scaling.spec.study import load_study
from tests.support.planning import DryRun, make_dry_run
from tests.support.tiny_study import write_shards
from tests.support.unusable_data import write_unusable_sets

SWEEP = """\
study: fine
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 30, batch: 16}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - {{kind: finetune, name: colours, train: train.json, test: val.json}}
"""


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set and others that cannot be used with it."""
    folder = tmp_path_factory.mktemp("data")
    write_unusable_sets(folder, tiny_data)
    write_shards(folder / "other", 1, 7, samples=10)
    index_shards(expand_urls([str(folder / "other")]), folder / "other.json", name="other")
    names = ["red", "green", "blue", "yellow"]
    for name, classes in (("named", names), ("reordered", names[::-1]), ("five", [*names, "none"])):
        split = "train" if name == "named" else "val"
        index_shards(expand_urls([str(folder / split)]), folder / f"{name}.json", name=name, classes=classes)
    declare_manifest("declared", "single", 4, 1000, folder).save(folder / "declared.json")
    return folder


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.fixture
def sweep(data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "fine.yaml"
    path.write_text(SWEEP.format(root=json.dumps(str(data))))
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["resolution=48"], ["image_size = 48", "'mixer-laptop-32px'", "take a multiple of 32"]),
        (["resolution=16"], ["whole factor", "take a multiple of 32"]),
        (["train=multi.json"], ["multi.json is multi-label", "one class per image"]),
        (["test=multi.json"], ["multi.json is multi-label"]),
        (["test=train.json"], ["train.json is the data set train.json itself", "scaling.data dedup"]),
        (["test=shared.json"], ["shared.json shares 1 of its 2 shards with train.json"]),
        (["test=copies.json"], ["10 of the 10 images of copies.json are in train.json too", "same key"]),
        (["train=named.json", "test=reordered.json"], ["same names in another order"]),
        (["train=named.json", "test=five.json"], ["has 4 classes and five.json has 5"]),
        (["train=without.json"], ["1 of 4 classes of val.json, such as '2', have no image in without.json"]),
        (["dev=named.json"], ["dev_train and dev belong together", "name both"]),
        (["dev_train=train.json", "dev=copies.json"], ["10 of the 10 images of copies.json are in train.json too"]),
        (["dev_train=train.json", "dev=val.json"], ["val.json is the data set val.json itself"]),
        (["dev_train=train.json", "dev=five.json"], ["has 4 classes and five.json has 5"]),
        (["dev_train=train.json", "dev=other.json", "dev_share=0.1"], ["dev_share cuts a part from train"]),
        (["dev_share=0"], ["dev_share = 0", "is no image", "dev_share: 0.1"]),
        (["dev_share=0.002"], ["dev_share = 0.002 of the 200 images", "is no image"]),
        (["dev_share=0.999"], ["is all images"]),
        (["dev_share=1"], ["less than 1"]),
        (["recipe=vit-finetun"], ["evals[0].recipe", "did you mean 'vit-finetune'"]),
        (["recipe=mixer-jft"], ["'mixer-jft' is no recipe of fine-tuning", "did you mean"]),
        (["learning_rates=[0.01]", "dev_share=0.1"], ["evals[0].dev_share", "only rate, 0.01,", "learning_rates"]),
        (["learning_rates=[0.01]", "dev_seed=0"], ["evals[0].dev_seed", "nothing is held out to choose on"]),
        (["learning_rates=[0.01]", "dev_train=copies.json", "dev=other.json"], ["evals[0].dev_train", "only rate"]),
        (["recipe=bit-hyperrule", "dev_share=0.1"], ["evals[0].dev_share", "only rate, 0.003,"]),
        (["image_area=100"], ["evals[0].image_area", "mixer-finetune do not go by it", "bit-hyperrule, mixer-vtab"]),
        (["seeds=[1, 1]"], ["stands there twice"]),
        (["seeds=[]"], ["seeds"]),
        (["learning_rates=[0.1, 0]"], ["greater than 0"]),
        (["learning_rates=[.nan]"], ["finite"]),
        (["learning_rates=[]"], ["learning_rates"]),
        (["crop=center"], ["'short_side', 'square' or 'whole'"]),
        (["warmup_steps=500"], ["longer than its warm-up"]),
        (["resolutoin=64"], ["unknown key", "did you mean 'resolution'"]),
        (["test=null"], ["evals[0].test"]),
        (["recipe=bit-hyperrule", "train=declared.json"], ["declared by count only", "write image_area"]),
    ],
    ids=lambda value: " ".join(value) if len(value) < 3 else "",
)
def test_refusals(dry_run: DryRun, sweep: Path, options: list[str], expected: list[str]) -> None:
    code, told = dry_run(sweep, *(f"evals.0.{option}" for option in options))
    assert code == 2, told
    (line,) = told.splitlines()
    assert line.startswith("error: ") and ("evals[0]" in line or "--set" in line), line
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["launch.devices_per_run=3", "protocol.batch=24", "evals.0.batch=64"],
            ["batch = 64", "3 devices", "batch: 66"],
        ),
        (["defaults.permute=global", "evals.0.resolution=64"], ["permuted pixels at 32 px", "resolution: 32"]),
        (["grid.model=[vit-laptop-32px]", "evals.0.resolution=60"], ["multiple of its patch size 8"]),
        (
            ["defaults.model_options={token_concat: 2}", "evals.0.resolution=64"],
            ["token_concat = 2", "train at the resolution wanted"],
        ),
        (["evals.0.name=upstream"], ["is taken"]),
        (["defaults.recipe=vit-finetune"], ["is no recipe"]),
    ],
    ids=lambda value: value[0],
)
def test_refusals_that_lie_in_two_places(dry_run: DryRun, sweep: Path, options: list[str], expected: list[str]) -> None:
    code, told = dry_run(sweep, *options)
    assert code == 2, told
    line = told.splitlines()[-1]
    for part in expected:
        assert part in line


def test_equal_keys_of_other_images_are_no_overlap(dry_run: DryRun, sweep: Path) -> None:
    """The tiny training and validation sets count their samples alike."""
    assert dry_run(sweep)[0] == 0


def test_classes_without_a_training_image_can_be_let_pass(dry_run: DryRun, sweep: Path) -> None:
    """As in VTAB's thousand images of SUN397."""
    assert dry_run(sweep, "evals.0.train=without.json", "evals.0.allow_missing_classes=true")[0] == 0


def test_a_split_of_the_data_sets_own_chooses_the_rate(sweep: Path) -> None:
    """Trials see nothing else, the final runs all training images; without it both are cut from the training set."""
    own = ("evals.0.dev_train=copies.json", "evals.0.dev=other.json")
    for options, tried, chosen in (((), (180, "train"), (200, "train")), (own, (10, "copies"), (10, "other"))):
        study, document = load_study(sweep, options)
        planner = Planner(study, document)
        (job,) = FineTunePlanner(planner, study, document).plan(planner.plan())
        trials = list(job.trials("0" * 64).values())
        assert len(trials) == 4 and len({plan.identity for plan in trials}) == 4
        for plan in trials:
            assert (plan.subset.num_samples, Path(plan.train.manifest).stem) == tried
            assert (plan.val.num_samples, Path(plan.val.manifest).stem) == chosen
            assert (plan.dev is None) == bool(options)
        for plan in job.finals("0" * 64, 0.01).values():
            assert (plan.subset.num_samples, Path(plan.val.manifest).stem, plan.dev) == (200, "val", None)


def test_a_declared_data_set_is_planned(dry_run: DryRun, sweep: Path) -> None:
    assert dry_run(sweep, "evals.0.train=declared.json")[0] == 0
    assert (
        dry_run(sweep, "evals.0.train=declared.json", "evals.0.recipe=bit-hyperrule", "evals.0.image_area=1024")[0] == 0
    )


def test_a_setting_that_one_of_the_models_uses_is_kept(dry_run: DryRun, sweep: Path) -> None:
    """BiT has one rate and goes by the images' size; Mixer has four rates and does not."""
    both = "grid.model=[mixer-laptop-32px, bit-laptop-32px]"
    for option, model in (
        ("evals.0.dev_share=0.1", "bit-laptop-32px"),
        ("evals.0.image_area=100", "mixer-laptop-32px"),
    ):
        assert dry_run(sweep, both, option)[0] == 0
        code, told = dry_run(sweep, f"grid.model=[{model}]", option)
        assert code == 2 and option.partition("=")[0].replace("evals.0", "evals[0]") in told


def test_a_single_rate_for_a_suite_leaves_its_own_splits_unused(dry_run: DryRun, sweep: Path, tmp_path: Path) -> None:
    """They are the suite's to choose by, and none of the user's words."""
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "suite: own\nscore: top1\nevaluation: {kind: finetune, train: train.json, test: val.json,\n"
        "  dev_train: copies.json, dev: other.json}\nmembers: [{name: a}]\n"
    )
    entry = f"{{kind: suite, suite: {json.dumps(str(suite))}, learning_rates: [0.01]"
    assert dry_run(sweep, f"evals=[{entry}}}]")[0] == 0
    code, told = dry_run(sweep, f"evals=[{entry}, dev_seed: 1}}]")
    assert code == 2 and "evals[0].dev_seed" in told and "suite own, member a" in told


def test_a_suite_of_fine_tunings_is_planned_and_refused_with_its_place(
    dry_run: DryRun, sweep: Path, data: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "suite: own\nscore: top1\nevaluation: {kind: finetune, train: train.json, test: val.json}\n"
        "members: [{name: a}, {name: b}]\n"
    )
    own = f"evals=[{{kind: throughput}}, {{kind: suite, suite: {json.dumps(str(suite))}}}]"
    assert dry_run(sweep, own) == (0, "")
    code, told = dry_run(sweep, own, "evals.1.resolution=48")
    assert code == 2 and "evals" in told and "take a multiple of 32" in told
