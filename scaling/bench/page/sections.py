"""What of each benchmark's figures is on the page: one function a kind of file."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.bench.host_time import own_microseconds
from scaling.bench.launching.command import PLAN_COLUMNS, plan_cells
from scaling.bench.pipeline.command import BARE, OURS
from scaling.bench.pipeline.decoders import cores_of_a_node
from scaling.bench.training import PEERS

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, the command that measures it, a table and remarks."""

    title: str
    command: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    remarks: tuple[str, ...] = ()


def pipeline(figures: Figures) -> Section:
    rates = figures["images_per_cpu_second"]
    first, settings, starts = next(iter(rates)), figures["settings"], figures["first_batch_seconds"]
    rows = [
        (
            *_beside_peer(name, values, 0, first, f"{figures['ratio'][name]:.2f}"),
            _middle(starts[name], 2) if name in starts else "",
        )
        for name, values in rates.items()
    ]
    of_bare = statistics.median(rates[OURS]) / statistics.median(rates[BARE])
    return Section(
        f"Input pipeline, {_images(figures)}",
        f"pipeline MANIFEST --image-size {settings['image_size']} --images {settings['images']} "
        f"--rounds {settings['rounds']} --json FILE",
        ("loader", "images per CPU second", "range", "peer", "ratio", "first batch, s"),
        rows,
        (
            f"{figures['ratio_to_timm']:.2f} times timm's loader, and {of_bare:.0%} of bare calls.",
            f"Decoding in full and nothing else does {figures['decode_only_per_cpu_second']:,.0f} images/cpu-s.",
            f"Pixels differ from Pillow's (decode in full, crop, bilinear resize) by {figures['mean_pixel_error']:.3f} "
            "grey levels on average.",
            f"A training step 1.5 times as long as the loading of its batch waits {figures['data_wait']:.1%} of it.",
            f"{settings['rounds']} rounds in turns of {settings['images']} images.",
        ),
    )


def decoders(figures: Figures) -> Section:
    settings = figures["settings"]
    rows = [
        (
            name,
            _middle(rates, 0),
            _range(rates, 0),
            _middle(per_cpu := figures["images_per_cpu_second"][name], 0),
            _range(per_cpu, 0),
            _middle(figures["first_batch_seconds"][name], 2),
        )
        for name, rates in figures["images_per_second"].items()
    ]
    return Section(
        f"Threads and processes that decode, {_images(figures)}",
        f"pipeline MANIFEST --decoders --image-size {settings['image_size']} --images {settings['images']} "
        f"--rounds {settings['rounds']} --json FILE",
        ("decoded by", "images/s", "range", "images per CPU second", "range", "first batch, s"),
        rows,
        (*cores_of_a_node(figures), f"{settings['rounds']} rounds in turns of {settings['images']} images."),
    )


def planning(figures: Figures) -> Section:
    names = {
        "import seconds": "imports, s",
        "manifest seconds": "manifest, s",
        "subset and order seconds": "subset and order, s",
        "peak memory MB": "peak memory, MB",
        "manifest MB": "manifest, MB",
        "shards in a batch": "different shards in a batch",
        "shards if uniform": "the same if samples were drawn uniformly",
        "effective shards": "effective shards (1 / sum of squared shares)",
    }
    return Section(
        f"From a cold start to a rank's first batch: {figures['samples'] / 1e6:,.0f} M samples, "
        f"{figures['shards']:,} shards, {figures['ranks']} ranks of {figures['workers']} workers, "
        f"batches of {figures['batch']:,}",
        "pipeline --plan-only --json FILE",
        ("", "figure"),
        [(text, f"{figures[name]:,.1f}") for name, text in names.items()],
    )


def training(figures: Figures) -> Section:
    settings = figures["settings"]
    rows = []
    for name, ratio in figures["ratio"].items():
        rows.append(
            (
                name,
                f"{1000 * statistics.median(figures['step_seconds'][name]):,.1f}",
                f"{(rate := figures['images_per_second'][name]):,.{0 if rate >= 100 else 1}f}",
                PEERS[name],
                f"{ratio['median']:.3f}",
                f"{ratio['lower_quartile']:.3f}-{ratio['upper_quartile']:.3f}",
                f"{figures['cpu_ratio'][name]['median']:.3f}",
            )
        )
    return Section(
        f"A training step: {figures['model']}, {settings['batch']} images of {settings['image_size']} px, "
        f"{settings['precision']}",
        f"training --model {figures['model']} --batch {settings['batch']} --rounds {settings['rounds']} --json FILE",
        ("loop", "ms a step", "images/s", "peer", "ratio", "quartiles", "ratio of CPU time"),
        rows,
        (
            f"The trainer waits {figures['data_wait']:.2%} of its time for batches from shards.",
            f"{settings['rounds']} rounds of {settings['steps']} steps in turns, {settings['threads']} thread, on "
            f"{figures['device']}.",
        ),
    )


def checkpoint(figures: Figures) -> Section:
    stops = figures["stop_seconds"]
    peer = next(iter(stops))
    settings = figures["settings"]
    return Section(
        f"A checkpoint of {figures['gigabytes']:.2f} GB: {figures['model']}, {figures['parameters'] / 1e6:,.0f} M "
        "parameters with Adam's state",
        f"checkpoint --model {figures['model']} --batch {settings['batch']} --rounds {settings['rounds']} --json FILE",
        ("checkpoint", "training stands still, s", "range", "peer", "ratio", "on the disk after, s"),
        [
            (
                *_beside_peer(name, values, 2, peer, f"{figures['ratio'][name]:.3f}"),
                _middle(figures["written_seconds"][name], 1),
            )
            for name, values in stops.items()
        ],
        (
            f"A step takes {figures['step_seconds']:.2f} s, and {figures['step_seconds_beside']:.2f} s while a "
            "checkpoint is written.",
            "DeepSpeed's files are written and not flushed to the disk; ours are flushed and have checksums.",
        ),
    )


def host(figures: Figures) -> Section:
    rows = []
    for case in figures["cases"]:
        simulated = "" if case["ranks"] == 1 else " simulated"
        rows.append(
            (
                f"{case['ranks']:,}{simulated}",
                str(case["zero_stage"]),
                _middle([1000 * seconds for seconds in case["bare_seconds"]], 1),
                _middle([1000 * seconds for seconds in case["engine_seconds"]], 1),
                "bare PyTorch loop",
                _ratio(case["ratio"]),
                f"{own_microseconds(case, figures['tensors']):.0f}",
            )
        )
    return Section(
        f"The host's time in a step: the layers of {figures['model']}, {figures['tensors']} parameter tensors of next "
        "to no width",
        f"host --model {figures['model']} --ranks {figures['cases'][-1]['ranks']} --json FILE",
        ("ranks", "ZeRO", "bare loop, CPU ms", "engine, CPU ms", "peer", "ratio", "engine's own, µs a tensor"),
        rows,
        (
            "Simulated ranks are one process whose collectives return at once: no time of a network is in it.",
            f"{figures['settings']['rounds']} rounds of {figures['settings']['steps']} steps in turns, one thread.",
        ),
    )


def inference(figures: Figures) -> Section:
    peer = next(iter(figures["inference"]))
    return Section(
        f"Throughput of models side by side, {figures['settings']['precision']}",
        f"inference --models {' '.join(figures['inference'])} --json FILE",
        ("model", "inference, images/s", "peer", "ratio", "training, images/s", "ratio of training"),
        [
            (
                name,
                f"{found['images_per_second']:.1f}",
                peer,
                _ratio(found["speed_ratio"]),
                f"{figures['training'][name]['images_per_second']:.1f}",
                _ratio(figures["training"][name]["speed_ratio"]),
            )
            for name, found in figures["inference"].items()
        ],
        (f"{figures['settings']['rounds']} rounds in turns, {figures['settings']['threads']} thread.",),
    )


def fewshot(figures: Figures) -> Section:
    sizes = figures["sizes"]
    ours, peer = figures["solvers"]
    ratios = {ours: _ratio(figures["cpu_ratio"]), peer: "1.00"}
    return Section(
        f"The few-shot probe: {sizes['classes']:,} classes x {sizes['shots']} shots x {sizes['features']:,} features, "
        f"{sizes['test_images']:,} test images",
        "fewshot --json FILE",
        ("probe", "CPU s", "range", "wall s", "peer", "ratio of CPU time", "top-1"),
        [
            (
                name,
                _middle(found["cpu_seconds"], 1),
                _range(found["cpu_seconds"], 1),
                _range(found["wall_seconds"], 1),
                peer,
                ratios[name],
                f"{found['top1']:.2%}",
            )
            for name, found in figures["solvers"].items()
        ],
        (f"No score differs by more than {figures['largest_difference']:.1g} between the two.",),
    )


def launch(figures: Figures) -> Section:
    rows = [(name, *plan_cells(case)) for name, case in figures["cases"].items()]
    race = figures["race"]
    for name, wall in race["wall_seconds"].items():
        rows.append((f"{race['runs']} small runs, {name}", f"{wall:.1f}", "", "", ""))
    rows += [(f"Slurm, 1,000 tasks: {name}", f"{s:.2f}", "", "", "") for name, s in figures.get("slurm", {}).items()]
    return Section(
        "Planning, racing and submitting",
        "launch --json FILE",
        ("scaling.launch --dry-run", *PLAN_COLUMNS),
        rows,
        (
            f"Medians of {figures['rounds']} rounds.",
            f"Most attempts at a run that two launchers race for: {race['most_attempts']}.",
        ),
    )


def analysis(figures: Figures) -> Section:
    bare = next((name for name in figures["cases"] if name.startswith("bare reading")), "")
    base = figures["cases"].get(bare, {}).get("cpu_seconds")
    return Section(
        f"Reports and fits, {figures['rows_per_run']:,} log rows a run",
        "analysis --json FILE",
        ("case", "wall s", "CPU s", "peer", "ratio of CPU time", "peak MB"),
        [
            (
                name,
                f"{case['wall_seconds']:.1f}",
                f"{case['cpu_seconds']:.1f}",
                *((bare, f"{case['cpu_seconds'] / base:.2f}") if base and _same_runs(name, bare) else ("", "")),
                f"{case['peak_bytes'] / 1e6:,.0f}",
            )
            for name, case in figures["cases"].items()
        ],
        (
            "CPU time for twice as many runs: "
            + ", ".join(f"{ratio:.2f} times" for ratio in figures["cpu_ratio_per_doubling"])
            + ".",
            f"A fit takes {figures['cpu_seconds_per_curve']:.2f} CPU s a curve.",
        ),
    )


def study(figures: Figures) -> Section:
    return Section(
        f"A whole study: {figures['study']}, {figures['runs']} runs, {figures['side_by_side']} side by side",
        f"study sweeps/{figures['settings']['sweep']} --json FILE",
        ("part", "wall s", "share", "CPU s"),
        [
            (name, f"{part['wall_seconds']:.1f}", f"{part['share']:.1%}", f"{part['cpu_seconds']:.1f}")
            for name, part in figures["parts"].items()
        ],
        (
            f"{figures['wall_seconds']:.0f} s and {figures['cpu_seconds']:.0f} CPU s from the command to the report, "
            f"after {figures['data_seconds']:.0f} s of making data; everything but steps takes "
            f"{figures['share_beside_steps']:.0%} (goal: at most 25 %).",
        ),
    )


SECTIONS: dict[str, Callable[[Figures], Section]] = {
    "pipeline": pipeline,
    "decoders": decoders,
    "planning": planning,
    "training": training,
    "checkpoint": checkpoint,
    "host": host,
    "inference": inference,
    "fewshot": fewshot,
    "launch": launch,
    "analysis": analysis,
    "study": study,
}
"""By the name of a file up to its first `-`, in the order of the page."""


def _beside_peer(name: str, values: Sequence[float], digits: int, peer: str, ratio: str) -> tuple[str, ...]:
    """What was measured, median, range, the peer and the ratio to it."""
    return name, _middle(values, digits), _range(values, digits), peer, ratio


def _images(figures: Figures) -> str:
    """How large the images are that loaders hand out, and what they are made of."""
    data = figures["data"]
    return f"{figures['settings']['image_size']} px: {data['name']}, {data['image_bytes'] / 1000:,.1f} KB an image"


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f}"


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):,.{digits}f}-{max(values):,.{digits}f}"


def _ratio(summary: Mapping[str, float]) -> str:
    if summary["lower_quartile"] == summary["upper_quartile"]:
        return f"{summary['median']:.2f}"
    return f"{summary['median']:.2f} ({summary['lower_quartile']:.2f}-{summary['upper_quartile']:.2f})"


def _same_runs(name: str, bare: str) -> bool:
    return name.rpartition(", ")[2] == bare.rpartition(", ")[2]
