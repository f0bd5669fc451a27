"""Feature surgery: similarity without what all words have in common (CLIP Surgery, Li et al., 2023, section 3.3).

The authors multiply a patch with every word, element by element, and subtract the mean over the words; words that
the whole image is like weigh more. Sums of products are linear in the patch, so this is the same as other text
embeddings, one set for each image.
"""

from __future__ import annotations

from torch import Tensor

SHARPNESS = 2.0
"""Factor on the whole image's cosines ahead of the softmax over words."""


def surgery_texts(texts: Tensor, embeddings: Tensor) -> Tensor:
    """Text embeddings whose products with patches are the similarities after feature surgery.

    Args:
        texts: (C, d) unit-length text embeddings of all words that compete.
        embeddings: (B, d) unit-length image embeddings.

    Returns:
        (B, C, d).

    Example:
        A single word has nothing besides what it has in common with all words:

        >>> import torch
        >>> surgery_texts(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])).tolist()
        [[[0.0, 0.0]]]
    """
    weights = (SHARPNESS * embeddings @ texts.T).softmax(dim=1)
    weighted = (weights / weights.mean(dim=1, keepdim=True))[..., None] * texts
    return weighted - weighted.mean(dim=1, keepdim=True)
