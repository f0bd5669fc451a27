"""From mask embeddings to labels: scores, thresholds, and the selection of one mask for each thing (numpy only)."""

from __future__ import annotations

from gem_label.labeling.evidence import Evidence, evidence_of
from gem_label.labeling.labeling import Rescore, label_evidence, label_maskset
from gem_label.labeling.labels import MaskLabels
from gem_label.labeling.negatives import add_negatives, choose_negatives
from gem_label.labeling.scoring import ScoreModel, candidate_logits, image_top_k, score_evidence
from gem_label.labeling.selection import SelectionRule, select_masks
from gem_label.labeling.settings import LabelSettings, Thresholds
from gem_label.vocabulary import Vocabulary

__all__ = [
    "Evidence",
    "LabelSettings",
    "MaskLabels",
    "Rescore",
    "ScoreModel",
    "SelectionRule",
    "Thresholds",
    "Vocabulary",
    "add_negatives",
    "candidate_logits",
    "choose_negatives",
    "evidence_of",
    "image_top_k",
    "label_evidence",
    "label_maskset",
    "score_evidence",
    "select_masks",
]
