"""Boxes of annotation files as masks that SAM draws in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.defaults import DEFAULT_SAM
from gem_label.review.exchange.file_masks import BoxDrawer


def load_box_drawer(sam: str = DEFAULT_SAM, device: str = "cpu") -> BoxDrawer:
    """What `import_corrections(boxes="sam")` asks for masks.

    Args:
        sam: a name or a checkpoint file, as `load_sam` takes it.
        device: where the model runs.

    Raises:
        GemLabelError: there is no such model.
    """
    from gem_label.sam.boxes import mask_boxes  # torch only where SAM is asked for
    from gem_label.sam.models import load_sam

    model = load_sam(sam, device)

    def draw_boxes(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Sequence[dict[str, Any]]:
        return mask_boxes(model, image, boxes).rles

    return draw_boxes
