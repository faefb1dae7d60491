"""The laptop suite from the command line: data sets with the counts of its file, three probes, the means over them."""

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
import webdataset
from safetensors.torch import save_file

from scaling.data.format.index import expand_urls, index_shards
from scaling.evaluate.command import main
from scaling.jft_like.config import JftLikeConfig
from scaling.jft_like.make import make_jft_like
from scaling.models.build import build_model
from scaling.plan.suite import load_suite
from tests.support.tiny_study import encode


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for signs and flowers, small noisy images whose brightness tells their class, and the built-in set."""
    folder = tmp_path_factory.mktemp("laptop")
    generator = np.random.default_rng(0)
    for member in load_suite("laptop").members[:2]:
        for split, count in member.splits.items():
            (folder / member.name / split).mkdir(parents=True)
            with webdataset.TarWriter(str(folder / member.name / split / "0.tar")) as writer:
                for number in range(count):
                    label = number % (member.num_classes or 1)
                    noise = generator.normal(25 * label, 20, (8, 8, 3))
                    pixels = np.clip(noise, 0, 255).astype(np.uint8)
                    writer.write({"__key__": f"{number:04d}", "png": encode(pixels), "cls": str(label)})
            out = folder / member.name / f"{split}.json"
            index_shards(expand_urls([str(folder / member.name / split)]), out, name=f"{member.name}-{split}")
    make_jft_like(folder / "jft-like", JftLikeConfig(num_train=4, num_val=2, support_per_class=5, num_test=40))
    return folder


def test_the_suite_has_a_score_for_each_member_and_the_means_over_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save_file(build_model("mixer-laptop-32px", num_classes=3, image_size=32).state_dict(), tmp_path / "w.safetensors")
    command = [str(tmp_path / "w.safetensors"), "--model", "mixer-laptop-32px", "--threads", "1", "--json"]
    command += ["--eval", "laptop", "--root", str(root)]
    assert main([*command, "--out", str(tmp_path / "scores")]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    scores = {name: metrics[f"laptop.{name}/5shot_top1"] for name in ("sign_digits", "tf_flowers", "unseen")}
    assert scores["sign_digits"] > 0.2 and scores["tf_flowers"] > 0.3, "brightness is seen; chance is 0.1 and 0.2"
    assert metrics["laptop/mean_5shot_top1"] == pytest.approx(fmean(scores.values()))
    real = fmean([scores["sign_digits"], scores["tf_flowers"]])
    assert metrics["laptop/real_mean_5shot_top1"] == pytest.approx(real)
    assert metrics["laptop/jft-like_mean_5shot_top1"] == scores["unseen"]
    # A part of it has no mean.
    part = ["--set", "members=[sign_digits, unseen]", "--no-record"]
    assert main([*command, *part]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert "laptop/mean_5shot_top1" not in found and found["laptop.unseen/5shot_top1"] == scores["unseen"]
