"""Headings under which help pages list options."""

from __future__ import annotations

from typing import Final

INPUT_OUTPUT: Final = "Input and output"
VOCABULARY: Final = "Vocabulary"
FILTERING: Final = "Filtering"
MODELS: Final = "Models"
PROPOSALS: Final = "Mask proposals"
HARDWARE: Final = "Hardware"
PROCESSES: Final = "Several processes or machines"
