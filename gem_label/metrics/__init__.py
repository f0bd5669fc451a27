"""Measures on arrays: labels against annotations, points, coverage. They read no files and know no models."""
