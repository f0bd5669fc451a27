"""What an import of corrections did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field

from gem_label.review.storage.decision_log import Decision


@dataclass(slots=True)
class CorrectionReport:
    """What an import did.

    Attributes:
        photos: photos of the file that the dataset has.
        unknown: photos of the file that it does not have.
        unchanged: masks that are as they were.
        relabeled: masks with another label.
        redrawn: masks with another shape.
        added: masks that are new.
        missing: masks of the photos that are not in the file.
        refused: annotations that cannot be used; the masks that they name stay as they are.
        problems: what was left out, a line each: annotations that cannot be used, and parts of others.
        decision: the decision in the log; None when nothing changed.
    """

    photos: int = 0
    unknown: int = 0
    unchanged: int = 0
    relabeled: int = 0
    redrawn: int = 0
    added: int = 0
    missing: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    decision: Decision | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of masks and annotations by what became of them."""
        names = ("relabeled", "redrawn", "added", "unchanged", "missing", "refused")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """One line."""
        text = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        unknown = f"; {self.unknown} photos of the file are not in the dataset" if self.unknown else ""
        missed = self.decision.missed if self.decision else 0
        meanwhile = f"; {missed} masks changed meanwhile and stay as they are" if missed else ""
        return f"{self.photos} photos: {text or 'no masks'}{unknown}{meanwhile}"
