"""What a push does with the detections that a sample already has: a pure function on MongoDB documents.

A dataset is pushed to again and again while people review it. Their work stays: tags and fields that they added to
a detection, detections that they drew, labels that they changed, and every mask that they decided about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gem_label.labeling import MaskLabels
from gem_label.masks import MaskSet
from gem_label.review.storage.detections import Document, is_accepted, is_decided, relative_box

MaskStorage = Literal["auto", "database", "disk"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mask of a run, as it goes into a dataset.

    Attributes:
        index: its place among the photo's masks.
        mask_id: "<image_id>#<index>".
        label: its class.
        score: the estimated probability that the label is right, in [0, 1].
        margin: best minus second-best probability, in [0, 1].
        runner_up: the second-best class, None where the run stores one class per mask.
        box: x, y, width, height in pixels.
        bounding_box: the same relative to the photo's sides, in [0, 1], as FiftyOne has it.
        counts: the mask as compressed COCO run lengths over the photo.
        likely: it reaches the threshold; otherwise it is a less likely label.
    """

    index: int
    mask_id: str
    label: str
    score: float
    margin: float
    runner_up: str | None
    box: tuple[int, int, int, int]
    bounding_box: tuple[float, float, float, float]
    counts: bytes
    likely: bool = True

    @property
    def answers(self) -> Document:
        """The fields of a detection that depend on the words."""
        return {
            "label": self.label,
            "confidence": self.score,
            "margin": self.margin,
            "runner_up": self.runner_up,
            "proposed_label": self.label,
        }


def photo_proposals(image_id: str, masks: MaskSet, labels: MaskLabels) -> Iterator[Proposal]:
    """The kept masks of one photo; empty masks are left out."""
    names, boxes = labels.names, masks.boxes.astype(int).tolist()
    seconds = labels.top_classes[:, 1] if labels.top_classes.shape[1] > 1 else np.full(len(labels), -1)
    for i in np.flatnonzero(labels.kept).tolist():
        x, y, width, height = boxes[i]
        name = names[i]
        if name is None or width == 0:
            continue
        yield Proposal(
            index=i,
            mask_id=f"{image_id}#{i}",
            label=name,
            score=float(labels.score[i]),
            margin=float(labels.margin[i]),
            runner_up=labels.classes[seconds[i]] if seconds[i] >= 0 else None,
            box=(x, y, width, height),
            bounding_box=relative_box((x, y, width, height), masks.width, masks.height),
            counts=masks.counts[i],
        )


@dataclass(slots=True)
class Merged:
    """The detections that a sample shall have, in the labels' field and in that of less likely labels.

    Attributes:
        detections: documents in order; those in `masks_needed` still lack box and mask.
        likely: for each of them, whether it belongs into the labels' field.
        masks_needed: position in `detections` -> the proposal whose box and mask belong there.
        decided: how many detections stay as reviewers left them.
        kept: these by their `_id`.
    """

    detections: list[Document] = field(default_factory=list)
    likely: list[bool] = field(default_factory=list)
    masks_needed: dict[int, Proposal] = field(default_factory=dict)
    decided: int = 0
    kept: dict[Any, Document] = field(default_factory=dict)

    def add(self, detection: Document, likely: bool) -> None:
        """Put a detection at the end."""
        self.detections.append(detection)
        self.likely.append(likely)

    def keep(self, decided: Document, likely: bool) -> None:
        """Put a decided detection at the end as it is; the very same one, in both fields, counts once."""
        identifier = decided.get("_id")
        same = decided if identifier is None else self.kept.setdefault(identifier, decided)
        if same is not decided and same == decided:
            return
        self.add(decided, likely or is_accepted(decided))
        self.decided += 1

    def of(self, likely: bool) -> list[Document]:
        """The detections of the labels' field, or of that of less likely labels."""
        return [
            each for each, is_likely in zip(self.detections, self.likely, strict=True) if is_likely == likely
        ]


def merge_detections(
    existing: Sequence[Document],
    proposals: Sequence[Proposal],
    template: Document,
    storage: MaskStorage = "auto",
    overwrite: bool = False,
    deleted: Collection[str] = (),
    less_likely: Sequence[Document] = (),
) -> Merged:
    """Bring a sample's detections up to date with a run.

    A detection is known by its `mask_id`, in whichever of the two fields it is. One that the run still has gets the
    run's label, score and margin, goes where they belong, and loses nothing else; a new one is added; one that the
    run no longer has goes. Detections without a `mask_id` stay, and so do decided ones, unless `overwrite`: where
    they are, or, when they are accepted or renamed, in the labels' field. Masks that a reviewer deleted do not come
    back.

    Several detections may have one `mask_id` (copied, or split in another tool): all decided ones stay. When none is
    decided, one is brought up to date, the first that has the run's box if there is one. Other undecided ones stay as
    they are when somebody drew them another box, and go when the box is the run's: they would repeat a mask.

    Args:
        existing: the sample's detections as documents.
        proposals: the masks of the photo that belong into the dataset, likely or not.
        template: the document of an empty detection.
        storage: where masks belong; a mask that is elsewhere is needed again ("auto": anywhere is right).
        overwrite: give decided detections the run's label too (tags and further fields stay), and drop those that
            the run no longer has.
        deleted: mask ids that reviewers deleted; copies that are still there stay.
        less_likely: the sample's detections in the field of less likely labels.
    """
    fields = ((existing, True), (less_likely, False))
    known: dict[str, list[tuple[Document, bool]]] = {}
    for documents, likely in fields:
        for old in documents:
            if old.get("mask_id") is not None:
                known.setdefault(old["mask_id"], []).append((old, likely))
    merged = Merged()
    for proposal in proposals:
        copies = known.pop(proposal.mask_id, [])
        if not copies and proposal.mask_id in deleted:
            continue
        _merge_copies(merged, copies, proposal, template, storage, overwrite)
    for documents, likely in fields:
        for old in documents:
            drawn = old.get("mask_id") is None
            if drawn:
                merged.add(old, likely or is_accepted(old))
            elif old["mask_id"] in known and is_decided(old) and not overwrite:
                merged.keep(old, likely)
    return merged


def _merge_copies(
    merged: Merged,
    copies: list[tuple[Document, bool]],
    proposal: Proposal,
    template: Document,
    storage: MaskStorage,
    overwrite: bool,
) -> None:
    """Add the detections that a sample shall have of one mask of the run, given those that it has."""
    if not copies:
        copies = [({**template, "mask_id": proposal.mask_id}, proposal.likely)]
    decided = [is_decided(old) for old, _ in copies]
    updated = None  # the copy that gets the run's mask too
    if overwrite or not any(decided):
        updated = decided.index(True) if any(decided) else 0
        if len(copies) > 1 and not any(decided):
            updated = next((i for i, (old, _) in enumerate(copies) if _has_box(old, proposal)), 0)
    for i, (old, likely) in enumerate(copies):
        if i == updated:
            if not _has_mask(old, proposal, storage):
                merged.masks_needed[len(merged.detections)] = proposal
            merged.add({**old, **proposal.answers}, proposal.likely)
        elif decided[i] and overwrite:
            merged.add({**old, **proposal.answers}, proposal.likely)
        elif decided[i]:
            merged.keep(old, likely)
        elif not _has_box(old, proposal):
            merged.add(old, likely)


def _has_box(detection: Document, proposal: Proposal) -> bool:
    """Whether a detection has the proposal's box."""
    box = detection.get("bounding_box") or ()
    return len(box) == 4 and all(abs(a - b) <= 1e-9 for a, b in zip(box, proposal.bounding_box, strict=True))


def _has_mask(detection: Document, proposal: Proposal, storage: MaskStorage) -> bool:
    """Whether a detection holds the proposal's mask already, in the place where it belongs."""
    if not _has_box(detection, proposal):
        return False
    places = {"database": detection.get("mask"), "disk": detection.get("mask_path")}
    return any(places[name] for name in (places if storage == "auto" else (storage,)))
