"""What the review panel asks about whole photos: which, all masks of one, and things that the run missed."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.geometry import read_segmentation
from gem_label.labeling.proposing import NO_PROPOSAL, LabelProposal
from gem_label.review.editing.adding import store_mask
from gem_label.review.queues.details import NEXT_BEST, draw_crop
from gem_label.review.queues.order import UNDECIDED, count_undecided
from gem_label.review.queues.photos import PhotoDetails, photo_details, queue_photos
from gem_label.review.storage.claims import claim_masks, release_masks
from gem_label.review.storage.fields import run_of
from gem_label.review.storage.selection import Selection
from gem_label.rle import crop_mask
from gem_label.runs import open_run

if TYPE_CHECKING:
    from gem_label.masks import MaskSet
    from gem_label.review.tasks.prompting import MaskNamer, PhotoPrompter

Reply = dict[str, Any]

PHOTOS = 2000


def make_photo_queue(ctx: Any, selection: Selection) -> Reply:
    """Params `field`, `holder` and those of a selection; gives ids of samples, and how many masks are undecided."""
    field, holder = ctx.params["field"], ctx.params.get("holder")
    if holder:
        release_masks(ctx.dataset, holder)
    photos = queue_photos(ctx.dataset, field, selection, PHOTOS)
    return {"photos": photos, "remaining": count_undecided(ctx.dataset, field, selection)}


def get_photo(ctx: Any) -> Reply:
    """Params `field`, `sample_id`, `classes`; gives all masks of a photo and the pairs of one thing.

    With `holder` its undecided masks are claimed. A photo with undecided masks that somebody else has is not given.
    """
    params = ctx.params
    classes = (params.get("classes") or ())[: NEXT_BEST + 1]
    found = photo_details(ctx.dataset, params["field"], params["sample_id"], classes)
    if found is None or not _claim(ctx, found):
        return {"photo": None}
    return {"photo": found.to_json()}


def _claim(ctx: Any, photo: PhotoDetails) -> bool:
    """Claim the undecided masks of a photo; whether nobody else has any of them."""
    holder = ctx.params.get("holder")
    undecided = {mask.label_id for mask in photo.masks if mask.state in UNDECIDED}
    return not holder or claim_masks(ctx.dataset, undecided, holder) == undecided


def find_masks(ctx: Any) -> Reply:
    """Params `field`, `sample_id`, `points`, `negative_points`, `box` and `size` of the photo that they are for.

    Gives what is meant most likely, then a part of it or more, each as it is stored and as it is drawn, with its
    classes, or why there are none.
    """
    from gem_label.review.tasks.prompting import photo_path
    from gem_label.sam.prompting import Prompt

    params = ctx.params
    box = params.get("box")
    prompt = Prompt(
        tuple((float(x), float(y)) for x, y in params.get("points") or ()),
        tuple((float(x), float(y)) for x, y in params.get("negative_points") or ()),
        None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )
    width, height = params["size"]
    path = photo_path(ctx.dataset, params["sample_id"])
    masks = _prompter().draw(path, prompt, (int(width), int(height)))
    if not len(masks):
        raise UsageError("nothing is found there: click on another part of it, or drag a box around it")
    proposals, reason = [NO_PROPOSAL] * len(masks), None
    try:
        proposals = _namer_of(ctx.dataset, params["field"]).propose(path, masks)
    except (GemLabelError, OSError) as error:
        reason = str(error)
    scale = width / masks.width, height / masks.height
    drawn = [_draw(masks, index, scale, proposal) for index, proposal in enumerate(proposals)]
    return {"found": drawn, "reason": reason}


def _draw(masks: MaskSet, index: int, scale: tuple[float, float], proposal: LabelProposal) -> Reply:
    """A mask as it is stored and as it is drawn, on a photo that is larger by `scale` across and down."""
    x, y, width, height = (int(side) for side in masks.boxes[index])
    size, counts = draw_crop(crop_mask(masks.counts[index], masks.height, (x, y, width, height)))
    across, down = scale
    return {
        "mask": {"size": [masks.height, masks.width], "counts": masks.counts[index].decode("ascii")},
        "box": [x * across, y * down, width * across, height * down],
        "size": size,
        "counts": counts,
        "classes": list(proposal.classes[:NEXT_BEST]),
        "margin": proposal.margin,
    }


def add_mask(ctx: Any) -> Reply:
    """Params `field`, `mask` (ids of the sample and of the new detection), `label`, `request`, `author`, `found`.

    `found` is one of the masks that `find_masks` gave.
    """
    params = ctx.params
    found = params["found"]
    size = found["mask"]["size"]
    shape = read_segmentation(found["mask"], *size)
    if shape.rle is None:
        raise UsageError(f"the mask is none: {', '.join(shape.problems)}")
    classes = tuple((str(name), float(score)) for name, score in found["classes"])
    proposal = LabelProposal(classes, found["margin"]) if classes else NO_PROPOSAL
    sample_id, label_id = params["mask"]
    answer = store_mask(
        ctx.dataset,
        params["field"],
        sample_id,
        shape.rle,
        params["label"],
        proposal,
        label_id,
        params.get("author"),
        params["request"],
    )
    return {"answers": [asdict(answer)]}


@lru_cache(maxsize=1)  # SAM is loaded once, and keeps the features of the last photos
def _prompter() -> PhotoPrompter:
    from gem_label.review.tasks.prompting import PhotoPrompter  # torch: not before it is needed
    from gem_label.sam.models import load_sam

    return PhotoPrompter(load_sam())


def _namer_of(dataset: Any, field: str) -> MaskNamer:
    """The words of a field's run.

    Raises:
        GemLabelError: the field is from elsewhere, or the CLIP of its run cannot be loaded.
    """
    run = run_of(dataset, field)
    return _namer(run.path, str(run.manifest.get("updated")))


# loading takes seconds; another relabel, which `updated` tells, has other words
@lru_cache(maxsize=1)
def _namer(path: Path, updated: str) -> MaskNamer:
    from gem_label.review.tasks.prompting import MaskNamer

    return MaskNamer(open_run(path))
