"""SAM: models, point prompts, and mask proposals for one photo."""

from __future__ import annotations

from gem_label.sam.fast import FastSettings
from gem_label.sam.models import Sam, load_sam
from gem_label.sam.proposals import ProposalSettings, propose_masks

__all__ = ["FastSettings", "ProposalSettings", "Sam", "load_sam", "propose_masks"]
