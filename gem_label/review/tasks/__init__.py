"""Long work on a dataset: label its photos, give masks new words, search them, `apply_model`."""
