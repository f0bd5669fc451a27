"""What a push did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

_COUNTS = (
    "photos", "added", "updated", "unchanged", "detections", "less_likely", "decided", "masks_in_database",
    "masks_on_disk",
)  # fmt: skip


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        dataset: name of the dataset.
        field: name of the `Detections` field.
        photos: photos of the run.
        added: samples that were not in the dataset.
        updated: samples that were there and changed.
        unchanged: samples that were there and up to date.
        detections: detections in the field, over the photos of the run.
        less_likely: detections in the field of less likely labels, over the photos of the run.
        decided: detections that stayed as reviewers left them.
        masks_in_database: masks that this push wrote into documents.
        masks_on_disk: masks that this push put into files; a file that is there already is used as it is.
        seconds: how long it took.
    """

    dataset: str
    field: str
    photos: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    detections: int = 0
    less_likely: int = 0
    decided: int = 0
    masks_in_database: int = 0
    masks_on_disk: int = 0
    seconds: float = 0.0

    def add(self, part: PushReport) -> None:
        """Count another part of the same push in."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(part, name))

    def __str__(self) -> str:
        """One line for the terminal."""
        hidden = f", {self.less_likely} less likely ones hidden" if self.less_likely else ""
        kept = f", {self.decided} left as reviewers decided" if self.decided else ""
        return (
            f"{self.dataset}: {self.photos} photos ({self.added} added, {self.updated} updated, "
            f"{self.unchanged} unchanged) with {self.detections} masks in field {self.field!r}{hidden}{kept}; "
            f"{self.seconds:.1f} s"
        )
