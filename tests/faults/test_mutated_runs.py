"""Broken files of runs end in the masks that are whole or in one line: no traceback, no crash, no hang."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutations
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading_worker import ReadingWorker
from run_content import as_earlier_version, files_of, full_run
from soak import seeds
from test_mutated_files import problem

FILES = 1_000
READERS = ("run", "exported run", "checked run")
NUMBERS = [0, -1, 1, 255, 2**31 - 1, float("nan"), float("inf"), -1e30, 1e-40]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run, one of a version without checksums, and one of format 1."""
    folder = tmp_path_factory.mktemp("runs")
    run = full_run(folder / "run").path
    shutil.copytree(run, folder / "earlier")
    as_earlier_version(folder / "earlier")
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "run_format_1", folder / "format 1")
    return [run, folder / "earlier", folder / "format 1"]


@pytest.fixture(scope="module")
def worker() -> Iterator[ReadingWorker]:
    worker = ReadingWorker()
    yield worker
    worker.close()


def mutated(name: str, data: bytes, rng: random.Random) -> bytes:
    """The content of a file of a run, broken as its kind can be, or byte by byte."""
    suffix = Path(name).suffix
    if rng.random() < 0.2 or suffix == ".npy":
        return mutations.mutated_bytes(data, rng)
    if suffix == ".parquet":
        return mutated_shard(data, rng)
    if suffix == ".jsonl":
        return mutations.mutated_json_lines(data.decode(), rng)
    content = json.loads(data)
    content.pop("crc32", None)  # else all that follows is found by it
    return mutations.mutated_json(json.dumps(content), rng)


def mutated_shard(data: bytes, rng: random.Random) -> bytes:
    """A shard without checksums with other photos, columns or values."""
    file = pq.ParquetFile(pa.BufferReader(data))
    table, metadata = file.read(), dict(file.metadata.metadata)
    for key in (b"block_crc32", b"footer_crc32"):
        metadata.pop(key, None)
    action, name = rng.random(), rng.choice(table.column_names)
    place = table.schema.get_field_index(name)
    if action < 0.25:
        metadata[b"photos"] = mutations.mutated_json(metadata[b"photos"].decode(), rng)
    elif action < 0.3:
        metadata[b"photo_embeddings"] = mutations.mutated_bytes(metadata[b"photo_embeddings"], rng)
    elif action < 0.35:
        table = table.remove_column(place)
    elif action < 0.4:
        table = table.take(pa.array(rng.sample(range(len(table)), len(table)), pa.int64()))
    elif action < 0.45:
        table = table.slice(rng.choice([0, 1]), rng.choice([0, 1, len(table) - 1]))
    elif len(table):
        field = table.schema.field(place)
        values = table[name].to_pylist()
        row = rng.randrange(len(values))
        values[row] = odd_value(values[row], values, rng)
        try:
            column = pa.array(values, field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):  # no such value in such a column
            column = pa.nulls(len(table), pa.string())
        table = table.set_column(place, pa.field(name, column.type), column)
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), out, compression=rng.choice(["zstd", "none"]))
    return out.getvalue()


def odd_value(value: Any, others: list[Any], rng: random.Random) -> Any:
    """A value in the place of another one of its column."""
    if rng.random() < 0.2:
        return rng.choice(others)
    if isinstance(value, str):
        changed = mutations.mutated_bytes(value.encode(), rng)
        return (
            "".join(chr(48 + byte % 64) for byte in changed)
            if rng.random() < 0.5
            else changed.decode("latin-1")
        )
    if isinstance(value, bytes):
        return bytes(rng.randrange(256) for _ in value)
    if isinstance(value, list) and value:
        return [odd_value(each, value, rng) for each in value][: rng.choice([len(value), 1])]
    return None if isinstance(value, bool) or value is None else rng.choice(NUMBERS)


@pytest.mark.slow
def test_broken_runs_end_in_success_or_one_line(
    runs: list[Path], worker: ReadingWorker, request: pytest.FixtureRequest
) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for run in runs:
        assert worker.read("run", run).get("masks"), run
    for seed in seeds(request, FILES):
        rng = random.Random(seed)
        run = rng.choice(runs)
        kinds: dict[str, list[Path]] = {}
        for path in files_of(run):
            kinds.setdefault(path.suffix, []).append(path)
        path = rng.choice(rng.choice(list(kinds.values())))
        data = path.read_bytes()
        path.write_bytes(mutated(path.name, data, rng))
        reader = READERS[seed % 3]
        answer = worker.read(reader, run)
        assert not problem(answer), (seed, reader, str(path.relative_to(run.parent)), answer)
        outcomes[reader, next(iter(answer))] += 1
        path.write_bytes(data)
    print(outcomes)
    if sum(outcomes.values()) >= FILES:
        assert all(outcomes[reader, "masks"] > FILES / 20 for reader in READERS), outcomes
        assert outcomes["run", "refused"] > FILES / 6, outcomes
