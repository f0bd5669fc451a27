"""`Photo`: where a photo is, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to label.

    Attributes:
        path: absolute path, or an address such as "s3://bucket/a.jpg".
        image_id: path relative to the folder it was listed from, with "/", without suffix; unique in a run.
        number: its place in a run's listing, from 1; 0: it is in none yet.
        tag: of the content that was read: size and time of change, or the store's; "": not read yet.
    """

    path: str
    image_id: str
    number: int = 0
    tag: str = field(default="", compare=False)
