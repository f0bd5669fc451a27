"""Engines: who labels which photo when.

What happens to one photo is `gem_label.labeled_photo.label_photo`. `stream.iter_labeled_photos` takes many through
it; `local`, `shared` and `ray_data` put that stream into runs.
"""
