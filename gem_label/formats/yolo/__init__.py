"""YOLO segmentation: a folder of photos, label files and data.yaml, with a side file for what they cannot hold."""
