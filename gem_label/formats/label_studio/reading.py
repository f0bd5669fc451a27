"""Label Studio's list of tasks, read: JSON and JSON-MIN exports, and the files that it imports.

Of several annotations of a task the latest counts; skipped ones never do. Marks of ground truth say nothing: Label
Studio sets them for all that it imports. An exported task without an annotation gives its latest predictions. A file
that Label Studio did not export, such as those of `write_label_studio`, gives both: what is decided stands in
annotations there, the rest in predictions.

Label Studio keeps the ids of regions while people edit them, and gives copies new ones, but it cuts ids at "#". So
a mask id is kept as a region id that begins with "gem-" and is percent-encoded; no other region id is a mask id.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, brief, is_text
from gem_label.formats.label_studio.regions import read_regions

_PHOTO = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?|heic|avif)$", re.IGNORECASE)
_EXPORTED = ("project", "created_at", "updated_at", "total_annotations")
"""Keys of tasks that only Label Studio itself writes."""


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is Label Studio's list of tasks, or one task.

    Args:
        content: as JSON gives it.
    """
    rows = content if isinstance(content, list) else [content]
    return any(isinstance(row, dict) and (_is_task(row) or _is_minimal(row)) for row in rows)


def read_label_studio(path: Path, content: Any) -> Annotations:
    """The photos of Label Studio's tasks with their masks; shapes are not looked at yet.

    Brush masks, polygons, boxes and ellipses are masks; other regions come as masks that cannot be drawn. Regions of
    annotations count as accepted, those of predictions as undecided. Classes are those that masks have, in the order
    of the alphabet. Photos that nobody annotated, and annotations of a second annotator, are counted in `left_out`.

    Args:
        path: of the file, for messages.
        content: its content, as JSON gives it.

    Raises:
        UsageError: it has another form, or a task has no image.
    """
    rows = content if isinstance(content, list) else [content]
    photos: list[AnnotatedPhoto] = []
    left_out = Counter[str]()
    try:
        for place, task in enumerate(_as_tasks(path, rows), 1):
            photos += _photos(path, task, place, left_out)
    except RecursionError as error:
        raise UsageError(f"{path} has values of too many levels") from error
    labels = {mask.label for photo in photos for mask in photo.masks if is_text(mask.label)}
    lines = tuple(f"{count} {what}" for what, count in left_out.items())
    return Annotations(photos, tuple(sorted(labels)), count=len(photos), left_out=lines)


def photo_name(address: str) -> str:
    """The path of a photo in the address by which Label Studio finds it; "" where there is none.

    Example:
        >>> photo_name("/data/local-files/?d=photos%2Fa%20b.jpg"), photo_name("s3://bucket/a.jpg")
        ('photos/a b.jpg', 'a.jpg')
    """
    try:
        parts = urlsplit(address)
        if parts.path.rstrip("/").endswith("/data/local-files"):
            values = parse_qs(parts.query, errors="surrogateescape").get("d", [""])
            return values[0].lstrip("/")
    except ValueError:  # of an address with "[" in it
        return address
    if parts.scheme in ("http", "https") or address.startswith("/data/"):
        return unquote(parts.path, errors="surrogateescape").lstrip("/")
    if parts.scheme == "data":
        return ""
    return address.split("://", 1)[1].partition("/")[2] if "://" in address else address


def _is_task(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("data"), dict) and not {"images", "categories"} & row.keys()


def _is_minimal(row: Mapping[str, Any]) -> bool:
    """Whether it is an entry of JSON-MIN."""
    return {"annotation_id", "annotator"} <= row.keys() and not {"image_id", "data"} & row.keys()


def _as_tasks(path: Path, rows: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Tasks as they stand, and those of JSON-MIN, which has an entry for each annotation."""
    tasks: list[Mapping[str, Any]] = []
    minimal: dict[str, Any] = {}
    for place, row in enumerate(rows, 1):
        if isinstance(row, dict) and _is_task(row):
            tasks.append(row)
        elif isinstance(row, dict) and _is_minimal(row):
            key = f"id {row['id']}" if "id" in row else f"entry {place}"
            if key not in minimal:
                data = {name: value for name, value in row.items() if not _is_regions(value)}
                minimal[key] = {"id": row.get("id"), "data": data, "annotations": [], "project": None}
                tasks.append(minimal[key])
            if row["annotation_id"] is not None:
                minimal[key]["annotations"].append(_as_annotation(row))
        else:
            raise UsageError(
                f"{path} holds no tasks of Label Studio: entry {place} is a {type(row).__name__}"
            )
    return tasks


def _as_annotation(row: Mapping[str, Any]) -> dict[str, Any]:
    """The annotation of an entry of JSON-MIN, in which each tag of the project has a list of shapes."""
    result = []
    for shape in (shape for value in row.values() if _is_regions(value) for shape in value):
        sides = ("original_width", "original_height", "item_index")
        known = {key: shape[key] for key in sides if key in shape} if isinstance(shape, dict) else {}
        result.append({"value": shape, **known})
    return {"result": result, "updated_at": row.get("updated_at")}


def _is_regions(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def _photos(
    path: Path, task: Mapping[str, Any], place: int, left_out: Counter[str]
) -> Iterator[AnnotatedPhoto]:
    """Yield the photo of a task, or the photos of one with several."""
    own = task.get("id") if isinstance(task.get("id"), (int, str)) else None
    name = f"task {brief(own)}" if own is not None else f"task number {place}"
    images = [photo_name(address) for address in _addresses(task["data"])]
    if not images or not all(map(is_text, images)):
        raise UsageError(f"{path}: {name} has no address of an image")
    exported = any(key in task for key in _EXPORTED)
    decided = _choose(task.get("annotations"), "annotations", left_out)
    suggested = None
    if decided is None or not exported:
        suggested = _choose(task.get("predictions"), "predictions", left_out)
    if decided is None and suggested is None and exported:
        left_out["tasks that nobody annotated"] += 1
        return
    regions = list(read_regions(decided, name, "accepted")) if decided is not None else []
    if suggested is not None:
        taken = {region.mask.id for region in regions} - {None}
        more = read_regions(suggested, name, "undecided")
        regions += [region for region in more if region.mask.id not in taken]
    for page, image in enumerate(images):
        here = [region for region in regions if min(region.page, len(images) - 1) == page]
        size = next((region.size for region in here if region.size), None)
        yield AnnotatedPhoto(image, size, [region.mask for region in here], own)


def _addresses(data: Mapping[str, Any]) -> list[str]:
    """The addresses of a task's photos: its `image`, or what looks most like one."""
    values = [data.get("image"), *data.values()]
    found = [[each] if is_text(each) else each for each in values]
    lists = [each for each in found if isinstance(each, list) and each and all(map(is_text, each))]
    if lists and found[0] is lists[0]:
        return lists[0]
    for looks in (lambda text: _PHOTO.search(photo_name(text)), lambda text: "/" in text):
        for each in lists:
            if all(map(looks, each)):
                return each
    return []


def _choose(entries: Any, what: str, left_out: Counter[str]) -> Mapping[str, Any] | None:
    """The annotation or prediction that counts; exports have the bare ids of predictions, which do not."""
    usable = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    usable = [each for each in usable if each.get("was_cancelled") is not True]
    if not usable:
        return None
    if len(usable) > 1:
        left_out[f"{what} beside the ones that count"] += len(usable) - 1
    return max(enumerate(usable), key=lambda each: (_time(each[1]), each[0]))[1]


def _time(entry: Mapping[str, Any]) -> str:
    """When an annotation was changed last; times are ISO 8601, which sorts as text."""
    times = (entry.get("updated_at"), entry.get("created_at"))
    return next((time for time in times if isinstance(time, str)), "")
