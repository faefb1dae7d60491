"""Images in a tree of class folders."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.class_names import ClassNames, clean_name, refuse_unprintable
from scaling.data.format.manifest import LabelType
from scaling.data.format.shard import IMAGE_EXTENSIONS, UNREAD_IMAGE_EXTENSIONS
from scaling.data.tools.sources.source import NO_OPTIONS, LeftOut, SourceOptions, read_file
from scaling.errors import UserError, did_you_mean

IMAGE_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)

UNREAD_SUFFIXES = tuple(f".{extension}" for extension in UNREAD_IMAGE_EXTENSIONS)

SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
"""Files and folders that operating systems leave beside images, in lower case."""

SPLIT_NAME = re.compile(r"(train|training|val|valid|validation|test|testing|dev|eval)([-_ .].*)?", re.IGNORECASE)
"""Folders of these names, when there are no others, hold parts of a data set and not classes."""

WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")

IGNORED = "ignored as told"

UNREAD = "images of a format that is not read"


class FolderSource:
    """`ROOT/<class>/**/<image>`; classes are numbered in the order of their names, as in ImageFolder, and
    names that are all whole numbers in that of the numbers.

    Hidden files and folders, those that operating systems leave, class folders without an image, and what
    `options.ignore` matches are left out. Images of a format that is not read are an error unless they are ignored.
    """

    def __init__(self, root: Path, options: SourceOptions = NO_OPTIONS) -> None:
        self._root, self._ignore = root, options.ignore
        self.label_type: LabelType = "multi" if options.label_type == "multi" else "single"
        if options.label_type in ("one-hot", "multi-hot"):
            raise UserError(f"--label-type {options.label_type}: a folder of class folders holds no vectors")
        self.left_out: dict[str, LeftOut] = {}
        self.num_unlabelled = 0
        self.num_repeated = 0
        folders = self._class_folders()
        counts = {name: sum(1 for _ in self._images(name, self.left_out)) for name in folders}
        self._refuse_unread()
        self._folders = [name for name in folders if counts[name]]
        for name in folders:
            if not counts[name]:
                self._leave_out(self.left_out, "class folders without an image that is packed", name)
        if not self._folders and IGNORED in self.left_out:
            raise UserError(
                f"{root}: every image is left out by --ignore {' '.join(self._ignore.patterns)}; name fewer"
            )
        if not self._folders:
            raise UserError(f"{root} has no class folders; expected {root}/<class name>/<image>")
        self.classes, self._numbers = self._number_classes(options.classes)
        self.class_counts: NDArray[np.int64] | None = np.zeros(len(self.classes), dtype=np.int64)
        for name in self._folders:
            self.class_counts[self._numbers[name]] += counts[name]

    def references(self) -> Iterator[tuple[str, int]]:
        for name in self._folders:
            for path in self._images(name, {}):
                yield path, self._numbers[name]

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, label = reference
        return read_file(self._root / path), [label]

    def _class_folders(self) -> list[str]:
        folders = []
        for path in sorted(self._root.iterdir(), key=lambda path: path.name):
            if is_system_name(path.name):
                self._leave_out(self.left_out, "hidden and system files and folders", path.name)
            elif path.is_dir():
                folders.append(path.name)
            elif self._ignore.matches(path.name):
                self._leave_out(self.left_out, IGNORED, path.name)
            else:
                kind = (
                    "images outside of class folders" if path.name.lower().endswith(IMAGE_SUFFIXES) else "other files"
                )
                self._leave_out(self.left_out, kind, path.name)
        return folders

    def _images(self, class_folder: str, left_out: dict[str, LeftOut]) -> Iterator[str]:
        """Paths of a class relative to the root, in order; others are counted in `left_out`."""
        for folder, folders, files in os.walk(self._root / class_folder, onerror=_cannot_list):
            inner = os.path.relpath(folder, self._root)
            for name in list(folders):
                path = f"{inner}/{name}"
                if is_system_name(name):
                    self._leave_out(left_out, "hidden and system files and folders", path)
                    folders.remove(name)
                elif os.path.islink(f"{folder}/{name}"):  # noqa: PTH114
                    self._leave_out(left_out, "folders behind symbolic links", path)
            folders.sort()
            for name in sorted(files):
                path = os.path.normpath(f"{inner}/{name}")
                if self._ignore.matches(path):
                    self._leave_out(left_out, IGNORED, path)
                elif is_system_name(name):
                    self._leave_out(left_out, "hidden and system files and folders", path)
                elif name.lower().endswith(IMAGE_SUFFIXES):
                    yield path
                elif name.lower().endswith(UNREAD_SUFFIXES):
                    self._leave_out(left_out, f"{UNREAD} ({os.path.splitext(name)[1].lower()})", path)  # noqa: PTH122
                else:
                    self._leave_out(left_out, "other files", path)

    def _refuse_unread(self) -> None:
        unread = {kind: files for kind, files in self.left_out.items() if kind.startswith(UNREAD)}
        if unread:
            told = ", ".join(
                f"{files.count:,} {kind[len(UNREAD) :].strip(' ()')} (such as {files.examples[0]!r})"
                for kind, files in unread.items()
            )
            patterns = " ".join(f"--ignore '*{kind[len(UNREAD) :].strip(' ()')}'" for kind in unread)
            raise UserError(
                f"{self._root} holds images of formats that are not read: {told}; convert them to PNG or JPEG, or "
                f"leave them out with {patterns}"
            )

    def _number_classes(self, given: ClassNames | None) -> tuple[Sequence[str], dict[str, int]]:
        # File systems disagree about the form of accents; a class has one name wherever it comes from.
        names = {folder: clean_name(folder) for folder in self._folders}
        folder_of: dict[str, str] = {}
        for folder, name in names.items():
            refuse_unprintable(name, str(self._root))
            other = folder_of.setdefault(name, folder)
            if not name or other != folder:
                raise UserError(
                    f"{self._root}: two class folders, {other!r} and {folder!r}, differ in blanks or in the form of "
                    "their accents only; merge them"
                    if name
                    else f"{self._root}: a class folder is named {folder!r}, blanks alone; rename it"
                )
        if given is None and all(SPLIT_NAME.fullmatch(name) for name in names.values()):
            raise UserError(
                f"{self._root}: its folders {', '.join(map(repr, names.values()))} are named like parts of a data set, "
                f"not like classes; name one of them, such as {self._root / self._folders[0]}, or name the classes "
                "with --classes FILE"
            )
        if given is None:
            ordered = sorted(names, key=lambda folder: names[folder])
            if all(WHOLE_NUMBER.fullmatch(name) for name in names.values()):
                ordered = self._by_value(names)
            return [names[folder] for folder in ordered], {folder: number for number, folder in enumerate(ordered)}
        return given.names, {folder: class_number(name, given, f"folder {folder!r}") for folder, name in names.items()}

    def _by_value(self, names: dict[str, str]) -> list[str]:
        """Folders that are named by numbers, in their order; UserError when two stand for one number."""
        by_value: dict[int, str] = {}
        for folder, name in names.items():
            other = by_value.setdefault(int(name), folder)
            if other != folder:
                raise UserError(
                    f"{self._root}: the class folders {other!r} and {folder!r} are one number; merge them, or name the "
                    "classes with --classes FILE"
                )
        return [by_value[value] for value in sorted(by_value)]

    def _leave_out(self, left_out: dict[str, LeftOut], reason: str, name: str) -> None:
        left_out.setdefault(reason, LeftOut()).add(name)


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden or one that operating systems leave beside images."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def class_number(name: str, given: ClassNames, where: str) -> int:
    """Number of the class of this name among those that --classes names, or of the value it gives it."""
    if name in given.names:
        return given.names.index(name)
    if name.isdecimal() and given.values and int(name) in given.values:
        return given.values.index(int(name))
    raise UserError(f"{where}: --classes does not name the class {name!r}; {did_you_mean(name, given.names)}")


def _cannot_list(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be listed ({error.strerror}); its images would be lost")
