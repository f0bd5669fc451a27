"""Numbers about the masks of a dataset: the state of a review, point labels, ground truth."""
