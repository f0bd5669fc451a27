"""Annotation files out of a dataset, and corrections from other tools back into it."""
