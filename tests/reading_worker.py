"""A process that reads files within bounds of memory and time, and says what came of each.

It takes lines of JSON, {"reader": ..., "path": ...}, and answers each by a line of JSON: {"masks": how many were
drawn}, {"refused": the message} or {"failed": what was raised}. A process that ends in place of an answer crashed, or
took too long.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HEADROOM = 3 << 29
"""Bytes of memory that a file may take."""

SECONDS = 10
"""Of processor time that a file may take."""


class ReadingWorker:
    """The process, started again when it ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, reader: str, path: Path) -> dict[str, Any]:
        """What came of a file: "masks", "refused" or "failed"."""
        if self.process is None:
            command = [sys.executable, __file__]
            limits = {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **limits},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"reader": reader, "path": str(path)}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.close()
        return {"failed": f"the process ended with {code} (-11: a crash; -24: more than {SECONDS} s)"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                stream.close()
            self.process = None


def readers() -> Mapping[str, Callable[[Path], int]]:
    """Functions that read a file and say how many masks it has, by their names."""
    import numpy as np

    from gem_label.evaluation.openimages import read_class_names, read_points
    from gem_label.formats.annotations import Annotations
    from gem_label.formats.coco import read_coco_results
    from gem_label.formats.reading import parse_json, read_annotations
    from gem_label.photos.listing import find_photos
    from gem_label.runs import open_run, search_run
    from gem_label.runs.export import run_annotations
    from gem_label.runs.repair import check_run
    from gem_label.text_files import read_text
    from gem_label.vocabulary import Vocabulary
    from gem_label.words import WordsPerImage

    def draw(annotations: Annotations) -> int:
        drawn = 0
        for photo in annotations.photos:
            assert photo.name, "a photo without a name"
            for mask in photo.masks:
                # as exports ask for it, and imports, which know the photo
                for size in {photo.size or (48, 64), (48, 64)}:
                    shape = mask.draw(*size)
                    assert shape.rle is not None or shape.problems, "a mask that is lost in silence"
                    assert all("\n" not in each and len(each) < 300 for each in shape.problems), (
                        shape.problems
                    )
                    drawn += shape.rle is not None
        assert all(map(str.strip, annotations.classes)), annotations.classes
        return drawn

    def results(path: Path) -> int:
        rows = parse_json(path, read_text(path))
        return draw(read_coco_results(path, rows, read_annotations(path.parent / "truth.json")))

    def run(path: Path) -> int:
        run, drawn = open_run(path), 0
        for _, masks, labels in run.photo_masks():
            drawn += sum(bool(mask.any()) for mask in masks)
            assert len(labels) == len(masks)
        search_run(run, np.ones(run.embedding_dim))
        assert run.learned is None or run.learned.to_dict()
        for photo in run.listing():
            run.patches(photo.number)
        return drawn

    def exported_run(path: Path) -> int:
        run = open_run(path)
        assert all(isinstance(failure.error, str) for failure in run.failures())
        return draw(run_annotations(run))

    def checked_run(path: Path) -> int:
        check = check_run(path)
        for fault in check.faults:
            assert "\n" not in fault.problem, fault
            assert len(fault.problem) < 500, fault
        return check.masks

    return {
        "run": run,
        "exported run": exported_run,
        "checked run": checked_run,
        "annotations": lambda path: draw(read_annotations(path)),
        "results": results,
        "words": lambda path: len(WordsPerImage.from_csv(path).words),
        "points": lambda path: len(read_points(path)),
        "names": lambda path: len(read_class_names(path)),
        "classes": lambda path: len(Vocabulary.from_file(path).classes),
        "photos": lambda path: len(find_photos([path]).photos),
    }


def main() -> None:
    """Answer lines until there are no more."""
    from gem_label.errors import GemLabelError

    functions = readers()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize"):
            limit = int(line.split()[1]) * 1024 + HEADROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        try:
            answer: dict[str, Any] = {"masks": functions[request["reader"]](Path(request["path"]))}
        except GemLabelError as error:
            answer = {"refused": str(error)}
        except BaseException:
            answer = {"failed": traceback.format_exc(limit=-8)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
