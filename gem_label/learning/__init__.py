"""Learning from reviewers' decisions and from examples: better scores and better words for all masks of a run.

Pure functions on arrays, but for `learned_file`, which reads and writes RUN/learned.json.
"""
