"""Words per image: photos with equal names in different folders do not share words by accident."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from random_run import ANIMALS, open_writer, text_of, write_photo

from gem_label.errors import UsageError
from gem_label.photos.photo import Photo
from gem_label.runs import open_run, relabel_run
from gem_label.words import WordsPerImage

SAME_STEM = [Photo("/photos/a/1.jpg", "a/1"), Photo("/photos/b/1.png", "b/1")]
SAME_NAME = [Photo("/photos/1.jpg", "1"), Photo("/photos/a/1.jpg", "a/1")]


@pytest.mark.parametrize(("photos", "name"), [(SAME_STEM, "1"), (SAME_NAME, "1"), (SAME_NAME, "1.jpg")])
def test_a_name_of_several_photos_is_refused(photos: list[Photo], name: str) -> None:
    words = WordsPerImage({name: ["cat"]})
    with pytest.raises(UsageError, match=f"'{name}', which may be {photos[0].path} or {photos[1].path}"):
        words.check_photos(photos)


@pytest.mark.parametrize(
    "names", [("a/1", "b/1"), ("/photos/a/1.jpg", "/photos/b/1.png"), ("a/1.jpg", "1.png")]
)
def test_paths_and_ids_tell_them_apart(names: tuple[str, str]) -> None:
    words = WordsPerImage({names[0]: ["cat"], names[1]: ["dog"]})
    words.check_photos(SAME_STEM)
    assert [words.of(photo.path, photo.image_id) for photo in SAME_STEM] == [("cat",), ("dog",)]


def test_relabel_refuses_them_too(tmp_path: Path) -> None:
    with open_writer(tmp_path / "run") as writer:
        for photo in writer.register(SAME_STEM):
            write_photo(writer, photo)
    run = open_run(tmp_path / "run")
    with pytest.raises(UsageError, match="which may be"):
        relabel_run(run, ANIMALS, text_of(ANIMALS), words=WordsPerImage({"1": ["cat"]}))
    relabel_run(run, ANIMALS, text_of(ANIMALS), words=WordsPerImage({"a/1": ["cat"]}))


def test_names_of_other_systems_are_the_same_photos(tmp_path: Path) -> None:
    photos = [Photo("/photos/für/1.jpg", "für/1"), Photo("/photos/b/2.jpg", "b/2")]
    decomposed = unicodedata.normalize("NFD", "für")
    (tmp_path / "words.csv").write_text(f"image,words\n{decomposed}\\1.jpg,cat\nfür/1.jpg,dog\nb\\2,cow\n")
    words = WordsPerImage.from_csv(tmp_path / "words.csv")
    words.check_photos(photos)
    assert [words.of(photo.path, photo.image_id) for photo in photos] == [("cat", "dog"), ("cow",)]
    with pytest.raises(UsageError, match="'2', which may be"):
        WordsPerImage({"2": ["cat"]}).check_photos(
            [Photo("/photos/b/2.png", "b/2"), Photo("/photos/c/2.png", "c/2")]
        )


@pytest.mark.parametrize(
    ("rows", "problem"), [("  ,cat\n", "line 2: no image"), ('1,"cat\n2,dog\n', "unexpected end of data")]
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path, rows: str, problem: str) -> None:
    (tmp_path / "words.csv").write_text(f"image,words\n{rows}")
    with pytest.raises(UsageError, match=problem):
        WordsPerImage.from_csv(tmp_path / "words.csv")
