"""A bit that flips in any file of a run is found when the run is read, or changes nothing."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from run_content import content, files_of, full_run
from soak import seeds

from gem_label.errors import GemLabelError
from gem_label.runs.repair import check_run

FLIPS = 300


def read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What a run holds, or the message that it is damaged."""
    try:
        return content(path), ""
    except GemLabelError as error:
        return None, str(error)


def test_a_flipped_bit_is_found(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = full_run(tmp_path / "run").path
    expected, files = content(path), files_of(path)
    assert {file.name for file in files} >= {
        "manifest.json",
        "images.jsonl",
        "failures.jsonl",
        "learned.json",
    }
    outcomes: Counter[str] = Counter()
    for seed in seeds(request, FLIPS):
        rng = random.Random(seed)
        file = files[seed % len(files)]
        data = file.read_bytes()
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        capsys.readouterr()
        where = f"seed {seed}: bit {bit} of byte {place} of {file.relative_to(path)}"
        found, problem = read(path)
        if problem:
            assert file.name in problem, (where, problem)
            assert len(problem.splitlines()) == 1, (where, problem)
            outcomes["error"] += 1
        else:
            # a line end that flips makes the last line one that a kill cut
            assert found == expected or file.name in capsys.readouterr().err, where
            outcomes["same" if found == expected else "note"] += 1
        file.write_bytes(data)
    assert content(path) == expected
    print(outcomes)
    assert outcomes["error"] > FLIPS / 2


def test_a_flipped_bit_in_any_part_of_a_shard_is_found(tmp_path: Path) -> None:
    """In data, page headers and footer, and between them."""
    path = full_run(tmp_path / "run").path
    shard = path / "masks" / "shard-000000.parquet"
    data = shard.read_bytes()
    assert not check_run(path).faults
    rng = random.Random(0)
    for place in range(0, len(data), 97):
        shard.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        faults = check_run(path).faults
        assert [fault.path for fault in faults] == [shard], place
