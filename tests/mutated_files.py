"""Files of every kind that gem-label reads, whole and broken in random places."""

from __future__ import annotations

import gzip
import io
import json
import random
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import format_factory
import mutations
import pyarrow as pa
import pyarrow.parquet as pq

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
            found.append(Original("annotations", text, entry, {p: files[p] for p in files.keys() - text.keys()}))
            packed = f"{out.stem}.zip"
            found.append(Original("annotations", files, packed, {}, packed))
            if name in ("yolo", "csv", "parquet"):
                break  # one way of writing masks
    return found


def files_below(out: Path) -> dict[str, bytes]:
    """The content of a file, or of all in a folder."""
    if out.is_file():
        return {out.name: out.read_bytes()}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def label_studio_task() -> dict[str, Any]:
    """A task as Label Studio exports it, with every kind of region."""
    brush = [0, 0, 0, 8, 57, 27, 252, 255, 224]
    about = {"original_width": 2, "original_height": 1, "image_rotation": 0, "item_index": 0}
    box = {"x": 5, "y": 5, "width": 40, "height": 50.5, "rotation": 30}
    values = {
        "brushlabels": {"format": "rle", "rle": brush, "brushlabels": ["a"]},
        "polygonlabels": {"points": [[1, 1], [90, 3.5], [50, 80]], "closed": True, "polygonlabels": ["b"]},
        "rectanglelabels": {**box, "rectanglelabels": ["a", "b"]},
        "ellipselabels": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 9, "rotation": 3, "ellipselabels": ["a"]},
        "keypointlabels": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["a"]},
        "choices": {"choices": ["x"]},
    }
    result = [{"id": kind[:3], "type": kind, "value": value, **about} for kind, value in values.items()]
    result += [{"id": "two", "type": "rectangle", "value": box}, {"id": "two", "type": "labels", "value": {"labels": ["a"]}}]
    annotation = {"result": result, "was_cancelled": False, "updated_at": "2024-01-02", "ground_truth": False}
    image = "/data/local-files/?d=photos%2Fa.jpg"
    return {"id": 1, "data": {"image": image}, "annotations": [annotation] * 2, "predictions": [4], "project": 1}


def label_studio_minimal() -> dict[str, Any]:
    """A task of JSON-MIN."""
    shape = {"points": [[1, 1], [9, 3], [5, 8]], "polygonlabels": ["b"], "original_width": 20, "original_height": 10}
    return {"image": "http://x/b.jpg", "id": 2, "annotation_id": 1, "annotator": 1, "label": [shape]}


def coco_results() -> list[Original]:
    """A list of results, and the images and categories that it is of."""
    truth = (CASES / "photo.bom.json").read_text(encoding="utf-8-sig")
    rows = [
        {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": each["segmentation"], "bbox": each["bbox"]}
        for each in json.loads(truth)["annotations"]
    ]
    files = {"results.json": json.dumps(rows).encode()}
    return [Original("results", files, "results.json", {"truth.json": truth.encode()})] * 2


def labeling_files(folder: Path) -> list[Original]:
    """Tables and lists that labeling and its evaluation read, plain and packed."""
    points = "ImageId,X,Y,Label,EstimatedYesNo,Source,TextLabel\n" + "".join(
        f"{i % 3:016x},0.{i},0.{9 - i},/m/0{i % 2},{('yes', 'no', 'unsure')[i % 3]},v,cat\n" for i in range(1, 9)
    )
    classes = "kitten, house cat => cat\n# comment\ndog ! toy dog\n\n  cup of tea\nFüße\n"
    texts = {
        "words.csv": ("words", "image,words\na.jpg,cat; dog\nb c/d.jpg,cup\n\"e,f.png\",\na.jpg,dog\n"),
        "points.csv": ("points", points),
        "names.csv": ("names", "LabelName,DisplayName\n/m/01,Cat\n/m/02,\"Dog, big\"\n"),
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
            found += [Original(reader, files, f"{name}{suffix}", {}, f"{name}{suffix}") for suffix in (".gz", ".zip")]
    found.append(Original("photos", kept, "photos.zip", {}, "photos.zip"))
    return found


def whole(original: Original) -> dict[str, bytes]:
    """The files of an original as the reader gets them, by paths below a folder."""
    return {**_packed(original, original.files), **original.kept}


def _packed(original: Original, files: Files) -> dict[str, bytes]:
    if original.packed.endswith(".gz"):
        (data,) = files.values()
        return {original.packed: gzip.compress(data, mtime=0)}
    return {original.packed: zipped(files, random.Random(0))} if original.packed else dict(files)


def mutated(original: Original, rng: random.Random) -> dict[str, bytes]:
    """The files of an original, at least one of them broken.

    Returns:
        Contents by paths below a folder.
    """
    files = dict(original.files)
    inside = not original.packed or rng.random() < 0.3
    if inside:
        # lists of many label files do not outweigh the few others
        kinds: dict[str, list[str]] = {}
        for path in files:
            kinds.setdefault(PurePosixPath(path).suffix, []).append(path)
        path = rng.choice(rng.choice(list(kinds.values())))
        files[path] = mutated_content(path, files[path], rng)
    if original.packed.endswith(".zip") and not inside:
        return {original.packed: zipped(files, rng, broken=True)}
    files = _packed(original, files)
    if not inside:
        return {path: mutations.mutated_bytes(data, rng) for path, data in files.items()}
    if not original.packed and rng.random() < 0.03:
        files[path.upper() if rng.random() < 0.5 else f"x/{path}"] = files.pop(path)
    return {**files, **original.kept}


def mutated_content(path: str, data: bytes, rng: random.Random) -> bytes:
    """The content of a file, broken as its kind can be, or byte by byte."""
    suffix = PurePosixPath(path).suffix
    if rng.random() < 0.2 or suffix == ".png":
        return mutations.mutated_bytes(data, rng)
    if suffix == ".parquet":
        return mutated_parquet(data, rng)
    change = {
        ".json": mutations.mutated_json,
        ".jsonl": mutations.mutated_json_lines,
        ".xml": mutations.mutated_xml,
        ".csv": mutations.mutated_cells,
        ".yaml": mutations.mutated_yaml,
        ".txt": mutations.mutated_words,
    }[suffix]
    return change(data.decode("utf-8-sig"), rng)


def mutated_parquet(data: bytes, rng: random.Random) -> bytes:
    """A parquet table with columns of other types, without some, or with other bytes in its footer."""
    if rng.random() < 0.3:
        size = int.from_bytes(data[-8:-4], "little")
        action = rng.random()
        if action < 0.3:
            return data[:-8] + rng.choice([0, 1, size + 1, 2**31, 2**32 - 1]).to_bytes(4, "little") + data[-4:]
        footer = mutations.flipped(data[-8 - size : -8], rng)
        return data[: -8 - size] + footer + (len(footer) if action < 0.7 else size).to_bytes(4, "little") + b"PAR1"
    table = pq.read_table(pa.BufferReader(data))
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(table.num_columns)
        name, rows = table.column_names[place], table.num_rows
        action = rng.random()
        if action < 0.2 and table.num_columns > 1:
            table = table.remove_column(place)
        elif action < 0.3:
            table = table.append_column(name, table.column(place))
        elif action < 0.4:
            other = rng.choice(table.column_names)
            table = table.set_column(place, name, table.column(table.column_names.index(other)))
        else:
            table = table.set_column(place, name, rng.choice(odd_columns(rows)))
    out = io.BytesIO()
    about = table.schema.metadata or {}
    if rng.random() < 0.2:
        about = {key: mutations.mutated_bytes(value, rng) for key, value in about.items()}
    pq.write_table(table.replace_schema_metadata(about), out, compression=rng.choice(["snappy", "zstd", "gzip", "none"]))
    return out.getvalue()


def odd_columns(rows: int) -> list[pa.Array]:
    """Columns of types and values that no table of masks has."""
    return [
        pa.nulls(rows),
        pa.array([-1] * rows),
        pa.array([2**63 - 1] * rows),
        pa.array([float("nan")] * rows),
        pa.array([float("inf")] * rows),
        pa.array([1e308] * rows),
        pa.array([b"\xff\x00"] * rows),
        pa.array(["x" * 3000] * rows),
        pa.array(["two\nlines\x00"] * rows),
        pa.array([[1, 2]] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([2**40] * rows, pa.timestamp("us")),
        pa.array([2**62] * rows, pa.timestamp("us")),
        pa.array([2**62] * rows, pa.duration("us")),
        pa.array([True] * rows),
        pa.array(["cat"] * rows).dictionary_encode(),
        pa.array([10**30] * rows, pa.decimal128(38, 0)),
    ]


def zipped(files: Files, rng: random.Random, broken: bool = False) -> bytes:
    """Files as a .zip.

    Args:
        files: what goes in.
        rng: where it is broken.
        broken: rename, double or encrypt members, change sizes that they declare, pack much into little, or change
            bytes.
    """
    names = list(files)
    victim = rng.choice(names)
    action = rng.choice(["rename", "double", "flag", "size", "bomb", "method", "bytes", "bytes"]) if broken else ""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            target, data = name, files[name]
            if name == victim and action == "rename":
                target = rng.choice(["", "/x", "../" + name, "a\\b", "x" * 3000 + name, name.upper(), f"é/{name}", "/"])
            if name == victim and action == "bomb":
                # what packs to a 1000th: a value that never ends, or spaces before the content
                data = rng.choice([b" " * (1 << 24) + data, data[:-1] + b"0" * (1 << 24)])
            archive.writestr(zipfile.ZipInfo(target), data, zipfile.ZIP_DEFLATED)
            if name == victim and action == "double":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that the name is there already
                    archive.writestr(zipfile.ZipInfo(rng.choice([target, f"copy/{target}"])), data)
    packed = bytearray(out.getvalue())
    central = packed.rfind(b"PK\x01\x02")
    if action == "flag":
        packed[central + 8] |= rng.choice([1, 0x20, 0x40])
    elif action == "method":
        packed[central + 10] = rng.choice([0, 1, 9, 12, 14, 93, 99])
    elif action == "size":
        place = central + rng.choice([20, 24])
        packed[place : place + 4] = rng.choice([0, 1, 10**6, 2**31, 2**32 - 1]).to_bytes(4, "little")
    return mutations.mutated_bytes(bytes(packed), rng) if action == "bytes" else bytes(packed)


def write(files: Files, folder: Path) -> None:
    """Write files below a new folder."""
    folder.mkdir(parents=True)
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
