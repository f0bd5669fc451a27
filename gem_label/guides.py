"""Guides of dense methods by name: SAM, and vision transformers of timm."""

from __future__ import annotations

from gem_label.clip.guides import Guide, Proxy
from gem_label.clip.methods import AnyMethod, needs_guide
from gem_label.clip.timm_proxy import TimmProxy
from gem_label.errors import UsageError
from gem_label.sam.fast import FastSettings
from gem_label.sam.models import Sam
from gem_label.sam.proposals import AnySettings, propose_masks
from gem_label.sam.proxy import SamProxy

SAM_PROXY = "sam"


def check_proxy(method: AnyMethod, proxy: str) -> None:
    """Make sure that a proxy is asked for where a method looks at one.

    Raises:
        UsageError: it does not.
    """
    if proxy != SAM_PROXY and not needs_guide(method):
        raise UsageError(f"--proxy goes with proxyclip and corrclip; {method.name} looks at CLIP alone")


def load_guide(sam: Sam, proposals: AnySettings | None = None, proxy: str = SAM_PROXY) -> Guide:
    """A guide that proposes masks by SAM.

    Args:
        sam: what `load_sam` returns.
        proposals: how masks are proposed; None: fast.
        proxy: whose features say which places are alike: "sam", or a model as `TimmProxy` takes it.

    Raises:
        UsageError: no such model.
        GemLabelError: its weights cannot be loaded.
    """
    features: Proxy = SamProxy(sam) if proxy == SAM_PROXY else TimmProxy(proxy, sam.device)
    return Guide(features, lambda pixels: propose_masks(sam, pixels, proposals or FastSettings()))
