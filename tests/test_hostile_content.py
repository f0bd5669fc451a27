"""Content that costs far more than its size, or that libraries answer with something else than an error of theirs.

Found by `make soak` and by measuring: see docs/architecture.md.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mutations import BOMBS
from pycocotools import mask as coco_mask
from test_import_cases import written

from gem_label.errors import UsageError
from gem_label.evaluation.openimages import read_points
from gem_label.formats.label_studio.reading import read_label_studio
from gem_label.formats.reading import read_annotations
from gem_label.formats.yolo.side_file import match_lines
from gem_label.geometry import MAX_OUTLINE, polygons
from gem_label.photos.listing import find_photos
from gem_label.tables import shorten
from gem_label.text_files import read_text
from gem_label.vocabulary import Vocabulary

CVAT = '<annotations><image name="1.png" width="{}" height="{}">{}</image></annotations>'
MASK = '<mask label="cat" left="0" top="0" width="2" height="2" rle="1,3"/>'


def packed(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def refusal(read: object, path: Path) -> str:
    with pytest.raises(UsageError) as error:
        read(path)  # type: ignore[operator]
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)
    return str(error.value)


def test_members_without_a_name_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed(("", b"x"), ("a.xml", CVAT.format(9, 9, MASK).encode())))
    assert len(list(read_annotations(path).photos)) == 1
    path.write_bytes(packed(("", b"x"), ("a.txt", b"cat")))
    assert read_text(path) == "cat"
    path.write_bytes(packed(("", b"x"), ("a.txt", b"cat")))
    assert "no photos" in refusal(lambda file: find_photos([file]), path)


def test_messages_do_not_quote_all_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    name = "x" * 30_000 + ".xml"
    data = packed((name, b"<a/>"))
    path.write_bytes(data.replace(b"x" * 30, b"y" * 30, 1))  # the name in front of the content is another one
    assert "cannot unpack" in refusal(read_annotations, path)
    header = "ImageId,X,Y,Label,EstimatedYesNo\n"
    path = tmp_path / "points.csv"
    for text in (header + f"a,{'9' * 5000},0,b,yes\n", header + f"a,0,0,b,{'y' * 5000}\n", "x" * 200_000):
        path.write_text(text)
        assert refusal(read_points, path)


def test_sizes_beyond_all_photos_are_refused_before_masks_are_drawn(tmp_path: Path) -> None:
    path = written(tmp_path, CVAT.format(10**30, 9, MASK), "a.xml")
    (photo,) = read_annotations(path).photos
    assert photo.size is not None
    assert photo.masks[0].draw(*photo.size).problems == (f"a photo of 9 x {10**30} pixels",)


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused(tmp_path: Path, bomb: str, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes((bomb + CVAT.format(9, 9, "&a11;" * 9)).encode(encoding))
    assert "declares a document type" in refusal(read_annotations, path)


def test_archives_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    data = bytearray(packed(("a.json", b" " * 9999)))
    declared = data.rfind(b"PK\x01\x02") + 24
    data[declared : declared + 4] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    assert "is it a zip bomb?" in refusal(read_annotations, path)


def test_shapes_of_many_parts_take_time_by_their_number() -> None:
    places = [(10 * (i % 90), 10 * (i // 90)) for i in range(8_100)]
    parts = [[x, y, x + 5, y, x + 5, y + 5, x, y + 5] for x, y in places]
    started = time.process_time()
    shape = polygons([*parts, *[[1, 2]] * 900], 900, 900)
    assert time.process_time() - started < 4  # merged one by one, the time goes by the square
    assert shape.problems == ("a polygon that is no list of at least three points (900 times)",)
    expected = np.zeros((90, 10, 90, 10), np.uint8)
    expected[:, :5, :, :5] = 1
    assert (coco_mask.decode(shape.rle) == expected.reshape(900, 900)).all()


def test_the_outlines_of_all_parts_together_are_bounded() -> None:
    there_and_back = [0, 0, 1000, 1000] * (MAX_OUTLINE // 8000)  # half of what is allowed, with the way back
    long = [*there_and_back, 0, 0, 9, 0]
    problems = polygons([[0, 0, 9, 0, 9, 9], *[long] * 5], 1000, 1000).problems
    assert problems == (
        f"a polygon whose outline is longer than {MAX_OUTLINE} pixels, with those before it (2 times)",
    )


def test_many_regions_of_one_id_take_time_by_their_number(tmp_path: Path) -> None:
    about = {"id": "same", "type": "polygonlabels", "original_width": 100, "original_height": 100}
    result = [
        {**about, "value": {"points": [[1, 1], [9, 3], [5, i]], "polygonlabels": ["b"]}} for i in range(8_000)
    ]
    task = {"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": [*result, *result]}]}
    started = time.process_time()
    (photo,) = read_label_studio(tmp_path / "a.json", json.loads(json.dumps([task]))).photos
    assert time.process_time() - started < 4  # compared with all before them: 100 s
    assert len(photo.masks) == 8_000


def test_a_word_as_long_as_a_file_takes_no_time_for_messages() -> None:
    word = "9" * (1 << 20)
    started = time.process_time()
    assert Vocabulary.from_words(["cat", word]).classes == ("cat", word)
    assert shorten(f"a{word}z", 9) == "a999…999z"
    assert time.process_time() - started < 0.3


def test_many_polygons_alike_belong_to_their_own_entries() -> None:
    corners = np.array([[0.1, 0.1], [0.5, 0.1], [0.5, 0.4], [0.1, 0.4]])
    entry = {"label": "cat", "box": [0.1, 0.1, 0.5, 0.4], "area": 0.12}
    entries = [{**entry, "mask_id": str(i)} for i in range(1_000)]
    started = time.process_time()
    found = match_lines(entries, [("cat", corners)] * 1_000)
    assert time.process_time() - started < 3  # all with all: 4 s, 65 s for four times as many
    assert [each["mask_id"] for each in found] == [str(i) for i in range(1_000)]
