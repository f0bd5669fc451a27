"""Evaluations of the papers, as pure functions on arrays."""
