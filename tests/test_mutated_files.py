"""Broken files end in success or in one line: never a traceback, a crash, a hang, or memory without end."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mutated_files import mutated, whole, write
from original_files import CASES, Original, originals
from reading_worker import ReadingWorker
from soak import seeds

FILES = 2_400


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    return originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="module")
def worker() -> Iterator[ReadingWorker]:
    worker = ReadingWorker()
    yield worker
    worker.close()


def problem(answer: dict[str, Any]) -> str:
    """What is wrong with what came of a file; "" where nothing is."""
    text = answer.get("refused")
    if text is None:
        return answer.get("failed", "")
    return "" if 0 < len(text) < 500 and "\n" not in text else f"no message of one line: {text!r}"


def test_whole_files_are_read(files: list[Original], worker: ReadingWorker, tmp_path: Path) -> None:
    for number, original in enumerate(files):
        write(whole(original), tmp_path / str(number))
        answer = worker.read(original.reader, tmp_path / str(number) / original.entry)
        assert not problem(answer), (original.entry, answer)
        if not (CASES / original.entry).is_file():  # some of these have nothing that can be used
            assert answer.get("masks"), (original.entry, answer)


@pytest.mark.slow
def test_broken_files_end_in_success_or_one_line(
    files: list[Original], worker: ReadingWorker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in seeds(request, FILES):
        rng = random.Random(seed)
        original = rng.choice(files)
        folder = tmp_path / "case"
        write(mutated(original, rng), folder)
        answer = worker.read(original.reader, folder / original.entry)
        if problem(answer):
            kept = Path(tempfile.mkdtemp(prefix=f"gem-label-mutated-{seed}-"))
            shutil.move(folder, kept)
            pytest.fail(
                f"seed {seed}: {original.reader} of {kept / 'case' / original.entry}: {problem(answer)}"
            )
        shutil.rmtree(folder)
        outcomes[original.reader, next(iter(answer))] += 1
    if sum(outcomes.values()) >= FILES:  # a short soak does not meet all
        for reader in {original.reader for original in files}:
            assert outcomes[reader, "masks"] > 5, outcomes
            assert outcomes[reader, "refused"] > 5, outcomes
