"""How well the demo CLIP names things in held-out scenes: the figures of docs/demo-clip.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import Clip
from gem_label.demo.captions import caption
from gem_label.demo.scenes import Scene
from gem_label.demo.truth import scene_points, true_masks
from gem_label.evaluation.predictors import pooled_scores
from gem_label.masks import MaskSet, patch_weights, pool_patches
from gem_label.metrics.points import (
    assign_masks,
    average_iou,
    mask_prediction,
    point_counts,
    similarity_prediction,
)
from gem_label.sam.fast import FastSettings
from gem_label.sam.models import Sam
from gem_label.sam.proposals import AnySettings, propose_masks

DEMO_PROPOSALS = FastSettings(max_prompts=128)  # a scene has fewer things than a photograph


@dataclass(frozen=True)
class SceneReport:
    """Shares in [0, 1] over all scenes; p-mIoU averaged over image-class pairs.

    Attributes:
        retrieval: caption that is its scene's own, first among all captions of the scenes.
        named_clip: ground-truth masks whose pooled plain patches are nearest to the right word.
        named_gem: the same with GEM's patches.
        clip: p-mIoU of plain patches.
        gem: p-mIoU of GEM.
        gem_sam_threshold: p-mIoU of GEM-SAM, masks by threshold.
        gem_sam_argmax: p-mIoU of GEM-SAM, masks by best class.
        found: things with a proposed mask of IoU > 0.5.
        found_and_named: things with a proposed mask of IoU > 0.5 whose best word is right.
    """

    retrieval: float
    named_clip: float
    named_gem: float
    clip: float
    gem: float
    gem_sam_threshold: float
    gem_sam_argmax: float
    found: float
    found_and_named: float

    def __str__(self) -> str:
        return "\n".join(f"{f.name:20} {getattr(self, f.name):.3f}" for f in fields(self))


def best_ious(truth: MaskSet, masks: MaskSet) -> NDArray[np.float64]:
    """(T, N) IoU of every true mask with every proposed one."""
    if not len(truth) or not len(masks):
        return np.zeros((len(truth), len(masks)))
    return np.asarray(coco_mask.iou(truth.rles, masks.rles, [0] * len(masks)))


def report(
    clip: Clip,
    words: Sequence[str],
    scenes: Sequence[Scene],
    sam: Sam | None = None,
    proposals: AnySettings | None = None,
) -> SceneReport:
    """Measure one model on scenes.

    Args:
        clip: the model.
        words: the whole vocabulary; every thing's word is sought among all of them.
        scenes: with their truth.
        sam: proposes masks; without it the figures that need masks are 0.
        proposals: how masks are proposed; None: as for the demo.
    """
    gem, plain = DenseEncoder(clip, "gem"), DenseEncoder(clip, "clip")
    text = gem.text.encode(list(words))
    hits: dict[str, list[bool]] = {"clip": [], "gem": [], "found": [], "both": []}
    counts: dict[str, list[tuple[list[str], NDArray[np.int64]]]] = {
        k: [] for k in ("clip", "gem", "threshold", "argmax")
    }
    embeddings: list[Tensor] = []
    for i, scene in enumerate(scenes):
        image = clip.preprocess(scene.image)[None]
        plain_patches, embedding = plain.encode_with_class_token(image)
        embeddings.append(embedding)
        maps = {"gem": gem.encode(image)[0].numpy(force=True), "clip": plain_patches[0].numpy(force=True)}
        truth, points = true_masks(scene), scene_points(scene, np.random.default_rng(i))
        nouns = np.array([words.index(t.noun) for t in scene.things])
        present = text[[words.index(n) for n in scene.nouns]]
        for method, patches in maps.items():
            pooled = pool_patches(patch_weights(truth, patches.shape[:2]), patches)
            best = (pooled @ text.T).argmax(axis=1)
            hits[method].extend(bool(b == n) for b, n in zip(best, nouns, strict=True))
            similarity = np.einsum("hwd,cd->chw", patches, present)
            predicted = similarity_prediction(similarity, points, scene.image.shape[:2])
            counts[method].append((scene.nouns, point_counts(predicted, points, len(present))))
        if sam is None:
            continue
        masks = propose_masks(sam, scene.image, proposals or DEMO_PROPOSALS)
        weights = patch_weights(masks, maps["gem"].shape[:2])
        named = (pool_patches(weights, maps["gem"]) @ text.T).argmax(1)
        ious = best_ious(truth, masks) > 0.5
        hits["found"].extend(bool(row.any()) for row in ious)
        hits["both"].extend(
            bool((row & (named == noun)).any()) for row, noun in zip(ious, nouns, strict=True)
        )
        scores = pooled_scores(masks, np.einsum("hwd,cd->chw", maps["gem"], present))
        for rule in ("threshold", "argmax"):
            predicted = mask_prediction(masks, assign_masks(scores, rule), points)
            counts[rule].append((scene.nouns, point_counts(predicted, points, len(present))))
    mean = {k: float(np.mean(v)) if v else 0.0 for k, v in hits.items()}
    pairs = {k: average_iou(v).pairs for k, v in counts.items()}
    return SceneReport(
        retrieval=caption_retrieval(clip, scenes, torch.cat(embeddings)),
        named_clip=mean["clip"],
        named_gem=mean["gem"],
        clip=pairs["clip"],
        gem=pairs["gem"],
        gem_sam_threshold=pairs["threshold"],
        gem_sam_argmax=pairs["argmax"],
        found=mean["found"],
        found_and_named=mean["both"],
    )


@torch.no_grad()
def caption_retrieval(clip: Clip, scenes: Sequence[Scene], embeddings: Tensor) -> float:
    """Share of scenes whose own caption (up to four of its things) is nearest among all scenes' captions.

    Args:
        clip: the model.
        scenes: N scenes.
        embeddings: (N, d) their unit-length image embeddings.
    """
    rng = np.random.default_rng(0)
    captions = [caption(rng, scene.nouns[:4]) for scene in scenes]
    text = torch.nn.functional.normalize(
        clip.model.encode_text(clip.tokenizer(captions).to(clip.device)), dim=-1
    )
    return float(((embeddings @ text.T).argmax(1).cpu() == torch.arange(len(scenes))).float().mean())
