"""The papers' numbers as tables: accuracies as fractions, models in this project's spelling.

A row keeps what the file says about its origin. Nothing is interpolated or corrected.
"""

from importlib.resources import files

import pandas as pd

from analysis.runs.load import EXCLUDED_COLUMNS, Records, assemble
from analysis.runs.naming import parse_model_name

PUBLISHED_METRIC = "imagenet/5shot_top1"
FIGURE_2_SOURCE = "MLP-Mixer (arXiv 2105.01601 v1), Figure 2 right"
FIGURE_3_SOURCE = "MLP-Mixer (arXiv 2105.01601 v1), Figure 3"


def read_published(name: str, *, as_text: bool = False) -> pd.DataFrame:
    """The file `name`.csv of this package as it stands; `as_text` keeps each cell as it is printed, an empty one as an
    empty text."""
    with (files("analysis.published") / f"{name}.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False) if as_text else pd.read_csv(stream)


def model_key(title: str) -> str:
    """Our spelling of a paper's model: Mixer-B/32 -> mixer-b/32."""
    return title.lower()


def figure_2_records() -> Records:
    """Figure 2 (right) of the Mixer paper as records with one run per point and the metric PUBLISHED_METRIC."""
    table = read_published("mixer_fig2_right_digitised")
    runs = pd.DataFrame(
        {
            "study": "published",
            "run_id": [
                f"{FIGURE_2_SOURCE}: {row.model}, {row.jft300m_fraction_percent} %" for row in table.itertuples()
            ],
            "model": table["model"].map(model_key),
            "family": table["model"].map(lambda title: model_key(title).split("-")[0]),
            "fraction": table["jft300m_fraction_percent"] / 100,
            "num_images": table["subset_images_from_axis"].astype(float),
            "seed": 0,
            "epochs": table["epochs"],
            PUBLISHED_METRIC: table["linear_5shot_imagenet_top1"] / 100,
        }
    )
    models = {name: parse_model_name(name) for name in runs["model"].unique()}
    return assemble(runs, pd.DataFrame(columns=EXCLUDED_COLUMNS), models, {}, {})


def figure_3_points() -> pd.DataFrame:
    """Figure 3: model, family, epochs, core-days, images/s/core and ImageNet top-1 (fraction)."""
    table = read_published("mixer_fig3_digitised")
    prefix = {"ViT": "vit-", "Mixer": "mixer-", "BiT-Adam": "bit-"}
    short = table["model"].str.replace(" (identity inferred)", "", regex=False)
    return pd.DataFrame(
        {
            "model": [prefix[family] + name.lower() for family, name in zip(table["family"], short, strict=True)],
            "epochs": table["epochs"].astype(str).str.replace(r"\.0$", "", regex=True).replace("nan", ""),
            "core_days": table["tpuv3_core_days"],
            "images_per_second_per_core": table["throughput_img_s_core"],
            "imagenet_top1": table["imagenet_top1_ft224"] / 100,
            "verified": table["verified"],
        }
    )
