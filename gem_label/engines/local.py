"""The engine of one process: decode ahead in threads, run the models, write each photo as it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from tqdm import tqdm

from gem_label.engines import LabelJob, LabelReport, PhotoError, PhotoModels, failure_reason, label_photo
from gem_label.engines.decoding import DECODER_THREADS, PIXELS_AHEAD, decode_ahead
from gem_label.errors import GemLabelError
from gem_label.runs import RunPhoto, RunWriter

# So many model failures one after the other are no bad photos but a broken GPU or driver.
FAILURES_IN_A_ROW = 50


@dataclass(frozen=True)
class LocalEngine:
    """Labels photos in this process.

    Attributes:
        threads: how many photos are decoded at a time.
        pixels_ahead: decoded pixels held at a time.
        progress: a bar on stderr.
    """

    threads: int = DECODER_THREADS
    pixels_ahead: int = PIXELS_AHEAD
    progress: bool = True

    def run(
        self, photos: Sequence[RunPhoto], models: PhotoModels, job: LabelJob, writer: RunWriter
    ) -> LabelReport:
        """Label photos into a run; what a photo's failure does is in `label_photo`.

        Raises:
            GemLabelError: the run cannot be written, or the models fail on every photo.
        """
        started, done, failed, masks, kept, in_a_row = time.monotonic(), 0, 0, 0, 0, 0
        bar = tqdm(
            total=len(photos), unit="photo", file=sys.stderr, disable=not self.progress, smoothing=0.05
        )
        with bar, closing(decode_ahead(photos, self.threads, self.pixels_ahead)) as images:
            for photo, image in images:
                try:
                    result = label_photo(photo, image, models, job)
                except PhotoError as error:
                    failed += 1
                    in_a_row = 0 if error.stage == "read" else in_a_row + 1
                    _record(writer, photo, error)
                    if in_a_row >= FAILURES_IN_A_ROW:
                        raise GemLabelError(
                            f"{in_a_row} photos in a row failed, the last with {error}: when the cause is "
                            "mended, the same command goes on where this one stopped"
                        ) from error
                else:
                    done, masks, kept = (
                        done + 1,
                        masks + len(result.masks),
                        kept + int(result.labels.kept.sum()),
                    )
                    in_a_row = 0
                    try:
                        writer.write(
                            photo, result.masks, result.labels, result.image_embedding, result.patches
                        )
                    except OSError as error:
                        raise _cannot_write(writer, error) from error
                bar.set_postfix(masks=masks, kept=kept, failed=failed, refresh=False)
                bar.update()
        return LabelReport(done, failed, masks, kept, time.monotonic() - started)


def _record(writer: RunWriter, photo: RunPhoto, error: PhotoError) -> None:
    try:
        writer.fail(photo, error.stage, str(error))
    except OSError as problem:
        raise _cannot_write(writer, problem) from problem


def _cannot_write(writer: RunWriter, error: OSError) -> GemLabelError:
    return GemLabelError(
        f"cannot write {writer.path} ({failure_reason(error)}): free some space, the same command goes on"
    )
