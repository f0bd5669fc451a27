"""The XML of "CVAT for images 1.1"."""
