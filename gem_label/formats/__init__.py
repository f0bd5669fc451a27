"""Annotation files of every format: one description of annotated photos, one module a format.

`read_annotations` gives `Annotations` from a file of any of them, `write_annotations` takes them. Runs
(`gem_label.runs.export`) and FiftyOne datasets (`gem_label.review.exchange`) come as `Annotations` too.
"""
