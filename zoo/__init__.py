"""GEM-SAM as a source of FiftyOne's model zoo: `foz.load_zoo_model("gem-sam-vit-b-16", classes="cat, dog")`.

`gem_label.review.load_zoo_model` gives the same models without a source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def download_model(model_name: str, model_path: str) -> None:
    """Bring MobileSAM's weights; CLIP's come when the model is loaded.

    Args:
        model_name: a name in manifest.json.
        model_path: gets a note of what the model is made of, which tells FiftyOne that it is there.
    """
    from gem_label.review.tasks.model import ZOO, ZOO_SAM
    from gem_label.weights import pull_weights

    pull_weights(ZOO_SAM)
    Path(model_path).write_text(json.dumps({"clip": ZOO[model_name], "sam": ZOO_SAM}) + "\n")


def load_model(model_name: str, model_path: str, **settings: Any) -> Any:
    """The model, for `dataset.apply_model(model, "gem_sam")`.

    Args:
        model_name: a name in manifest.json.
        model_path: what `download_model` wrote.
        settings: what `gem_label.review.load_zoo_model` takes besides the name.

    Raises:
        UsageError: no classes.
    """
    from gem_label.review import load_zoo_model

    return load_zoo_model(model_name, **settings)
