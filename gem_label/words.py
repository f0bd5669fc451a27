"""Known words per photo (image-level tags), from a CSV file or from a mapping."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.photos.photo import Photo
from gem_label.phrases import as_words
from gem_label.text_files import open_text
from gem_label.vocabulary import Vocabulary


class WordsPerImage:
    """Which words a photo may have; photos that the table does not name may have all.

    A photo is named by its absolute path, its image_id (with or without suffix), or its file name (likewise),
    tried in this order. Slashes of Windows and the forms of Unicode make no difference; words of one name add up.

    Args:
        words: words of each photo, or text in which they stand between commas; no words: nothing in this photo gets
            a label.
    """

    def __init__(self, words: Mapping[str, str | Iterable[str]]) -> None:
        self.words: dict[str, tuple[str, ...]] = {}
        for name, of_name in words.items():
            form = _plain(name)
            self.words[form] = (*self.words.get(form, ()), *as_words(of_name))

    @classmethod
    def from_csv(cls, path: str | Path) -> WordsPerImage:
        """Read columns `image` and `words`: words separated by ";", or one row each. See `open_text` for files.

        Raises:
            UsageError: the file cannot be read or lacks a column.
        """
        words: dict[str, dict[str, None]] = {}
        try:
            with open_text(path, newline="") as file:
                rows = csv.DictReader(file, strict=True)  # else an open quote takes in the rows behind it
                if not {"image", "words"} <= set(rows.fieldnames or ()):
                    raise UsageError(f"{path} needs a first line with the columns image,words")
                for row in rows:
                    name = (row["image"] or "").strip()
                    if not name:
                        raise UsageError(f"{path}, line {rows.line_num}: no image")
                    entry = words.setdefault(name, {})
                    entry.update(
                        (word.strip(), None) for word in (row["words"] or "").split(";") if word.strip()
                    )
        except csv.Error as error:
            raise UsageError(f"cannot read the words per image {path}: {error}") from error
        return cls(words)

    @property
    def digest(self) -> str:
        """sha256 of the table, in the run's manifest to tell whether a resumed run has the same words."""
        rows = sorted((name, sorted(words)) for name, words in self.words.items())
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def of(self, image: str, image_id: str) -> tuple[str, ...] | None:
        """The words of a photo, None when the table does not name it.

        Args:
            image: its absolute path.
            image_id: its id in the run.
        """
        name = self._name(image, image_id)
        return None if name is None else self.words[name]

    def _name(self, image: str, image_id: str) -> str | None:
        """The table's name of a photo."""
        path = PurePath(image)
        names = (image, image_id, image_id + path.suffix, path.name, path.stem)
        return next((name for name in map(_plain, names) if name in self.words), None)

    def allowed(self, vocabulary: Vocabulary, image: str, image_id: str) -> NDArray[np.bool_] | None:
        """(C,) the classes that a photo may have; None: all.

        Raises:
            UsageError: a word that the vocabulary does not have.
        """
        words = self.of(image, image_id)
        return None if words is None else vocabulary.allowed(words)

    def check(self, vocabulary: Vocabulary) -> None:
        """Look at every word before a long run.

        Raises:
            UsageError: a word that the vocabulary does not have, or no photo at all.
        """
        if not self.words:
            raise UsageError("the words per image name no photo")
        vocabulary.allowed(dict.fromkeys(word for words in self.words.values() for word in words))

    def check_names(self, photos: Iterable[Photo]) -> None:
        """Make sure that no name of the table is that of several photos, such as "1" of a/1.jpg and b/1.jpg.

        Raises:
            UsageError: one is.
        """
        named: dict[str, str] = {}
        for photo in photos:
            name = self._name(photo.path, photo.image_id)
            if name is not None and named.setdefault(name, photo.path) != photo.path:
                raise UsageError(
                    f"the words per image name {name!r}, which may be {named[name]} or {photo.path}: "
                    "name them by path or image_id"
                )

    def check_photos(self, photos: Iterable[Photo]) -> None:
        """Make sure that the table is about these photos: else all of them would get all words.

        Raises:
            UsageError: it names none of them, or several by one name.
        """
        photos = list(photos)
        self.check_names(photos)
        if all(self.of(photo.path, photo.image_id) is None for photo in photos):
            raise UsageError(
                f"the words per image name none of the photos (but {next(iter(self.words), 'nothing')!r}): "
                "name them by path, image_id or file name"
            )


def _plain(name: str) -> str:
    """The name of a photo in one form, on whatever system it was written."""
    return unicodedata.normalize("NFC", name).replace("\\", "/")
