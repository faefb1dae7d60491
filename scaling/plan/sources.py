"""Data sets as planning names them: each manifest is read once, and every message says where the user named it."""

from collections.abc import Iterator
from pathlib import Path

from scaling.data.format.load_manifest import find_manifest, load_manifest
from scaling.data.format.manifest import Manifest
from scaling.errors import UserError
from scaling.records.run_plan import AccessPlan, SourcePlan
from scaling.spec.document import Document, KeyPath


class Sources:
    """Manifests by place or url, read when first asked for."""

    def __init__(self, document: Document, root: str, access: AccessPlan) -> None:
        """Relative names start at `root`, a folder or a url."""
        self.document, self.root, self.access = document, root, access
        self._manifests: dict[Path | str, Manifest] = {}
        self._places: dict[str, Path | str] = {}

    def source(self, place: KeyPath, name: str) -> SourcePlan:
        """The data set `name` as it is now; `place` is where the document names it."""
        path = find_manifest(self.root, name)
        if path not in self._manifests:
            try:
                self._manifests[path] = load_manifest(path, self.access)
            except UserError as error:
                raise self.document.error(place, str(error)) from error
        manifest = self._manifests[path]
        return SourcePlan(
            manifest=str(path),
            access=self.access,
            digest=manifest.digest,
            label_type=manifest.label_type,
            num_classes=len(manifest.classes),
            num_samples=manifest.num_samples,
        )

    def manifest(self, source: SourcePlan) -> Manifest:
        """The manifest of a source, read again only where it was not asked for here."""
        if source.manifest not in self._places:  # Thousands of runs ask for the same few.
            self._places[source.manifest] = find_manifest("", source.manifest)
        path = self._places[source.manifest]
        if path not in self._manifests:
            self._manifests[path] = load_manifest(path, source.access)
        return self._manifests[path]

    def __iter__(self) -> Iterator[tuple[Path | str, Manifest]]:
        return iter(self._manifests.items())
