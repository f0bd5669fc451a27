"""Files of every kind that gem-label reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import format_factory

from gem_label.formats.annotations import Annotations
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import FORMATS, write_annotations
from gem_label.progress import finish

CASES = Path(__file__).parent / "fixtures" / "cases"

Files = Mapping[str, bytes]
"""Contents by paths below a folder."""


@dataclass(frozen=True, slots=True)
class Original:
    """Files that are read together.

    Attributes:
        reader: which function reads them, see `reading_worker`.
        files: what is mutated.
        entry: the path that is given to the reader, below their folder; "" is the folder.
        kept: files that stay as they are.
        packed: the entry is a .zip or .gz of the files.
    """

    reader: str
    files: Files
    entry: str
    kept: Files
    packed: str = ""


def originals(folder: Path) -> list[Original]:
    """One of each kind.

    Args:
        folder: an empty one to work in.
    """
    return [*annotation_files(folder), *coco_results(), *labeling_files(folder)]


def annotation_files(folder: Path) -> list[Original]:
    """Annotation files as gem-label writes them, and as other tools do."""
    names = ("a/1.png", "a/2.png", "b c/3.png", "b c/4.png")
    photos = format_factory.photos(folder / "photos", names, ["cat", "dog, big", "Füße"], masks=3)
    tasks = json.dumps([label_studio_task(), label_studio_minimal()]).encode()
    return [
        *written_files(photos, folder),
        *case_files(),
        *([Original("annotations", {"tasks.json": tasks}, "tasks.json", {})] * 3),
    ]


def case_files() -> list[Original]:
    """The files of `fixtures/cases`."""
    paths = [path for path in sorted(CASES.iterdir()) if path.suffix in (".json", ".xml")]
    return [Original("annotations", {path.name: path.read_bytes()}, path.name, {}) for path in paths]


def written_files(photos: Annotations, folder: Path) -> list[Original]:
    """Annotated photos in every format, plain and packed.

    Args:
        photos: what is written.
        folder: where.
    """
    found = []
    for name, kind in FORMATS.items():
        for segmentation in ("rle", "polygon"):
            settings = WriteSettings(segmentation=segmentation, photos="copy")  # type: ignore[arg-type]
            out = folder / f"{name}-{segmentation}{kind.suffix}"
            finish(write_annotations(photos, out, name, settings))
            files = files_below(out)
            entry = "" if kind.is_folder else out.name
            text = {path: data for path, data in files.items() if not path.endswith(".png")}
            found.append(
                Original("annotations", text, entry, {p: files[p] for p in files.keys() - text.keys()})
            )
            packed = f"{out.stem}.zip"
            found.append(Original("annotations", files, packed, {}, packed))
            if name in ("yolo", "csv", "parquet"):
                break  # one way of writing masks
    return found


def files_below(out: Path) -> dict[str, bytes]:
    """The content of a file, or of all in a folder."""
    if out.is_file():
        return {out.name: out.read_bytes()}
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def label_studio_task() -> dict[str, Any]:
    """A task as Label Studio exports it, with every kind of region."""
    brush = [0, 0, 0, 8, 57, 27, 252, 255, 224]
    about = {"original_width": 2, "original_height": 1, "image_rotation": 0, "item_index": 0}
    box = {"x": 5, "y": 5, "width": 40, "height": 50.5, "rotation": 30}
    values = {
        "brushlabels": {"format": "rle", "rle": brush, "brushlabels": ["a"]},
        "polygonlabels": {"points": [[1, 1], [90, 3.5], [50, 80]], "closed": True, "polygonlabels": ["b"]},
        "rectanglelabels": {**box, "rectanglelabels": ["a", "b"]},
        "ellipselabels": {
            "x": 50,
            "y": 50,
            "radiusX": 20,
            "radiusY": 9,
            "rotation": 3,
            "ellipselabels": ["a"],
        },
        "keypointlabels": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["a"]},
        "choices": {"choices": ["x"]},
    }
    result = [{"id": kind[:3], "type": kind, "value": value, **about} for kind, value in values.items()]
    result += [
        {"id": "two", "type": "rectangle", "value": box},
        {"id": "two", "type": "labels", "value": {"labels": ["a"]}},
    ]
    annotation = {"result": result, "was_cancelled": False, "updated_at": "2024-01-02", "ground_truth": False}
    image = "/data/local-files/?d=photos%2Fa.jpg"
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [annotation] * 2,
        "predictions": [4],
        "project": 1,
    }


def label_studio_minimal() -> dict[str, Any]:
    """A task of JSON-MIN."""
    shape = {
        "points": [[1, 1], [9, 3], [5, 8]],
        "polygonlabels": ["b"],
        "original_width": 20,
        "original_height": 10,
    }
    return {"image": "http://x/b.jpg", "id": 2, "annotation_id": 1, "annotator": 1, "label": [shape]}


def coco_results() -> list[Original]:
    """A list of results, and the images and categories that it is of."""
    truth = (CASES / "photo.bom.json").read_text(encoding="utf-8-sig")
    rows = [
        {
            "image_id": 1,
            "category_id": 1,
            "score": 0.5,
            "segmentation": each["segmentation"],
            "bbox": each["bbox"],
        }
        for each in json.loads(truth)["annotations"]
    ]
    files = {"results.json": json.dumps(rows).encode()}
    return [Original("results", files, "results.json", {"truth.json": truth.encode()})] * 2


def labeling_files(folder: Path) -> list[Original]:
    """Tables and lists that labeling and its evaluation read, plain and packed."""
    points = "ImageId,X,Y,Label,EstimatedYesNo,Source,TextLabel\n" + "".join(
        f"{i % 3:016x},0.{i},0.{9 - i},/m/0{i % 2},{('yes', 'no', 'unsure')[i % 3]},v,cat\n"
        for i in range(1, 9)
    )
    classes = "kitten, house cat => cat\n# comment\ndog ! toy dog\n\n  cup of tea\nFüße\n"
    texts = {
        "words.csv": ("words", 'image,words\na.jpg,cat; dog\nb c/d.jpg,cup\n"e,f.png",\na.jpg,dog\n'),
        "points.csv": ("points", points),
        "names.csv": ("names", 'LabelName,DisplayName\n/m/01,Cat\n/m/02,"Dog, big"\n'),
        "classes.txt": ("classes", classes),
        "photos.txt": ("photos", "# list\nphotos/a.png\n\nphotos/b c.png\nnone.png\n"),
    }
    kept = {
        f"photos/{name}": (folder / "photos" / "a" / "1.png").read_bytes() for name in ("a.png", "b c.png")
    }
    found = []
    for name, (reader, text) in texts.items():
        beside = kept if reader == "photos" else {}
        files = {name: text.encode()}
        found += [Original(reader, files, name, beside)] * 2
        if reader != "photos":
            found += [
                Original(reader, files, f"{name}{suffix}", {}, f"{name}{suffix}")
                for suffix in (".gz", ".zip")
            ]
    found.append(Original("photos", kept, "photos.zip", {}, "photos.zip"))
    return found
