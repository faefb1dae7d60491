"""The data of a study as planning sees it: manifests, the subset of each run, what is excluded, what scores it.

Manifests are read and subsets drawn once and shared by all runs. Every message about a data set names where the study
names it.
"""

import contextlib
import functools
from pathlib import Path

from scaling.data.format.exclusion_list import load_exclusion
from scaling.data.format.load_manifest import find_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.subset import select_subset, subset_size
from scaling.data.storage.remote import is_url
from scaling.errors import UserError
from scaling.models.registry import family_of
from scaling.plan.check_classifier import Pretraining
from scaling.plan.check_data import class_problem, subset_problem, unfair_spread, warn_of_shared_shards
from scaling.plan.plan_evals import plan_evaluations
from scaling.plan.sources import Sources
from scaling.records.run_plan import AccessPlan, EvalPlan, SourcePlan, SubsetPlan
from scaling.spec.document import Document
from scaling.spec.study import Study
from scaling.spec.sweep import RunSpec, expand


class StudyData:
    """Reads what a study names; nothing before it is asked for."""

    def __init__(self, study: Study, document: Document) -> None:
        self._study, self._document = study, document
        self._subsets: dict[tuple[float, int], SubsetPlan] = {}
        data = study.data
        access = AccessPlan(
            storage=data.storage,
            cache=_cache_folder(data.cache, document),
            cache_gb=data.cache_gb,
            verify=data.verify_shards,
        )
        self.sources = Sources(document, data.root, access)

    @functools.cached_property
    def train(self) -> SourcePlan:
        """What runs are trained on."""
        return self.sources.source(("data", "train"), self._study.data.train)

    @functools.cached_property
    def val(self) -> SourcePlan:
        """The held-out split; UserError when its classes are not those of the training data."""
        train, name = self.train, self._study.data.val
        val = self.sources.source(("data", "val"), name)
        if problem := class_problem(
            self.sources.manifest(train), self.sources.manifest(val), self._study.data.train, name
        ):
            raise self._document.error(("data", "val"), problem)
        if val.num_classes != train.num_classes or val.label_type != train.label_type:
            raise self._document.error(
                ("data", "val"),
                f"{name}: {val.num_classes} {val.label_type}-label classes, but {self._study.data.train} has "
                f"{train.num_classes} {train.label_type}-label classes; the held-out split must share the labels",
            )
        warn_of_shared_shards(self.sources.manifest(val), self.sources.manifest(train), name, self._study.data.train)
        return val

    @functools.cached_property
    def specs(self) -> list[RunSpec]:
        """The runs of the study, expanded once; what they are decides what they can be scored by."""
        return expand(self._study, self._document)

    @functools.cached_property
    def evals(self) -> tuple[EvalPlan, ...]:
        """The evaluations of every run, in the study's order, each under a name of its own."""
        return plan_evaluations(self._study.evals, self.sources, self._pretraining if self._study.evals else None)

    @property
    def _pretraining(self) -> Pretraining:
        by_labels = "sigmoid" if self.train.label_type == "multi" else "softmax"
        settings = [spec.settings for spec in self.specs]
        losses = frozenset(by_labels if loss == "auto" else loss for loss in {one.loss for one in settings})
        families = set()
        for name in {one.model for one in settings}:
            with contextlib.suppress(UserError):  # An unknown model is told with its place by the planner.
                families.add(family_of(name))
        return Pretraining(self._study.data.train, self.sources.manifest(self.train), losses, frozenset(families))

    def subset(self, fraction: float, seed: int) -> SubsetPlan:
        """The training images of a run."""
        if (fraction, seed) not in self._subsets:
            place, exclusion = self._exclusion
            data, manifest = self._study.data, self.sources.manifest(self.train)
            if problem := subset_problem(manifest, data.train, fraction, data.allow_unfair_subsets):
                raise self._document.error(("data", "train"), problem)
            if not subset_size(manifest, fraction, exclusion):
                num_images = manifest.num_samples - len(exclusion)
                raise self._document.error(
                    ("grid", "fraction"),
                    f"{fraction:g}: less than half an image of the {num_images:,} of {data.train}; take "
                    f"{1 / num_images:.2g} or more",
                )
            subset = select_subset(manifest, fraction, seed, exclusion)
            self._subsets[fraction, seed] = SubsetPlan(
                fraction=fraction,
                seed=seed,
                num_samples=subset.num_samples,
                digest=subset.digest,
                exclude=place,
                exclusion_digest=exclusion.digest,
                label_spread=unfair_spread(manifest, fraction),
            )
        return self._subsets[fraction, seed]

    def refuse_declared(self) -> None:
        """UserError when something to be trained or scored on is known by count only; call after planning."""
        for path, manifest in self.sources:
            if manifest.is_declared:
                raise UserError(
                    f"{path} declares {manifest.num_samples:,} samples without any shards, which is enough for "
                    "--dry-run only; index your own shards with 'python -m scaling.data index' and name their "
                    "manifests in data and evals, for example with --set data.train=MANIFEST"
                )

    @functools.cached_property
    def _exclusion(self) -> tuple[str, Exclusion]:
        """Where the list of images is that no run may see, which is one for the whole study, and the list."""
        data = self._study.data
        if data.exclude is None:
            return "", NO_EXCLUSION
        place = str(find_manifest(data.root, data.exclude))
        try:
            return place, load_exclusion(place, self.sources.manifest(self.train))
        except UserError as error:
            raise self._document.error(("data", "exclude"), str(error)) from error

    def manifest_of(self, source: SourcePlan) -> Manifest:
        """The manifest of a source that the study names."""
        return self.sources.manifest(source)


def _cache_folder(cache: str, document: Document) -> str:
    """The absolute folder of copies, "" for none: a relative one starts where a relative `data.root` does, as a cache
    lies on the machine also where the root is a url. The document is told, so that a frozen sweep names it from any
    folder."""
    if not cache:
        return ""
    place = ("data", "cache")
    if is_url(cache):
        raise document.error(place, f"{cache}: copies of remote shards lie in a folder of the machine; name one")
    folder = Path.cwd() if document.is_from_option(place) else document.path.absolute().parent
    path = str((folder / cache).resolve())
    document.data["data"]["cache"] = path
    return path
