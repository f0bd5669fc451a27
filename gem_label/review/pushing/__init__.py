"""A run into a dataset, and again after every relabel; what reviewers did stays."""
