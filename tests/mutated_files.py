"""The files of `original_files`, broken in random places."""

from __future__ import annotations

import gzip
import io
import random
import warnings
import zipfile
from pathlib import Path, PurePosixPath

import mutations
import pyarrow as pa
import pyarrow.parquet as pq
from original_files import Files, Original


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
            return (
                data[:-8] + rng.choice([0, 1, size + 1, 2**31, 2**32 - 1]).to_bytes(4, "little") + data[-4:]
            )
        footer = mutations.flipped(data[-8 - size : -8], rng)
        return (
            data[: -8 - size]
            + footer
            + (len(footer) if action < 0.7 else size).to_bytes(4, "little")
            + b"PAR1"
        )
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
    pq.write_table(
        table.replace_schema_metadata(about), out, compression=rng.choice(["snappy", "zstd", "gzip", "none"])
    )
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
    action = (
        rng.choice(["rename", "double", "flag", "size", "bomb", "method", "bytes", "bytes"]) if broken else ""
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            target, data = name, files[name]
            if name == victim and action == "rename":
                target = rng.choice(
                    ["", "/x", "../" + name, "a\\b", "x" * 3000 + name, name.upper(), f"é/{name}", "/"]
                )
            if name == victim and action == "bomb":
                # what packs to a 1000th: a value that never ends, or spaces before the content
                data = rng.choice([b" " * (1 << 22) + data, data[:-1] + b"0" * (1 << 22)])
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
