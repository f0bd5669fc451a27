"""CLIP: towers (a uniform view of a ViT), GEM attention, dense patch features and text embeddings."""
