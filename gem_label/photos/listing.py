"""Which photos there are: files, folders, lists of paths, zips, and datasets, to the photos in them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile

from gem_label.errors import GemLabelError, ImageError, UsageError
from gem_label.photos.archives import Unpacked, unpack_into_store, unpack_photos
from gem_label.photos.buckets import Buckets
from gem_label.photos.lists import LIST_SUFFIXES, read_photo_list
from gem_label.photos.photo import Photo
from gem_label.photos.reading import check_header, image_suffixes
from gem_label.photos.sources import (
    ARCHIVE_SUFFIX,
    describe_left_out,
    is_passed_over,
    refusal,
)
from gem_label.stores import is_address

DatasetPaths = Callable[[str], list[str] | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos that were found, and what is to be said about them.

    Attributes:
        photos: each once.
        left_out: how many files of folders and archives are no photos, by lower-case suffix ("" for none).
        runs: folders that were passed over because they are runs of gem-label.
        done: what was done to get at the photos, one line each: archives unpacked, datasets looked up.
    """

    photos: list[Photo]
    left_out: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Lines for the person at the terminal: what was done, then what is left out, in one line."""
        left_out = describe_left_out(self.left_out, len(self.runs))
        return [*self.done, *([f"left out: {left_out}"] if left_out else [])]


def unique_image_id(path: str, relative: str, taken: set[str]) -> str:
    """An image_id that is not taken yet: without suffix; on a collision with it; then numbered ("a.jpg~2").

    Args:
        path: absolute path of the photo.
        relative: its path relative to the listed folder, normalized.
        taken: ids in use; the new one is added.
    """
    whole = relative or path
    dot = whole.rfind(".")
    named = (
        dot > whole.rfind("/") + 1 and dot < len(whole) - 1
    )  # text, as a path object takes ten times as long
    image_id, number = whole[:dot] if named else whole, 2
    if image_id in taken:
        image_id = whole
    while image_id in taken:
        image_id, number = f"{whole}~{number}", number + 1
    taken.add(image_id)
    return image_id


def list_images(
    paths: Iterable[str | os.PathLike[str]], dataset_paths: DatasetPaths | None = None
) -> list[Photo]:
    """The photos of `find_photos`, without what else it says."""
    return find_photos(paths, dataset_paths).photos


def find_photos(
    paths: Iterable[str | os.PathLike[str]], dataset_paths: DatasetPaths | None = None
) -> Listing:
    """The photos among what is given, each once.

    - a folder is searched to the bottom, in the order of names, for files whose suffix is a photo's. Hidden files
      and folders, folders that cameras' and servers' software makes (`@eaDir`, `__MACOSX`), and runs of gem-label
      are passed over;
    - a `.txt` file is a list of paths of photos, folders and zips, and a `.csv`, `.tsv` or `.parquet` has a column of
      them, see `read_photo_list`;
    - a `.zip` is unpacked into a folder beside it, see `unpack_photos`;
    - any other file is taken for a photo;
    - an address of an object store, `s3://bucket/photos`, is searched as a folder is, or is a photo, a list or an
      archive by its suffix;
    - a name without a "/" under which there is no file is that of a dataset, where
      `dataset_paths` knows it.

    Args:
        paths: what is given.
        dataset_paths: gives the paths of a dataset's photos by its name, None where there is no such dataset, as
            `gem_label.review.storage.dataset_paths` does for FiftyOne; None: names of datasets are not looked up.

    Raises:
        UsageError: a path does not exist, is a video, a document or a run, there is no photo at all, or the only
            one is a file that does not begin as a photo.
        GemLabelError: a folder cannot be read or an archive not be unpacked.

    Example:
        find_photos(["photos/", "more.zip", "list.txt"]).photos
    """
    finder = _Finder(dataset_paths)
    roots = [os.fspath(path) for path in paths]
    for root in roots:
        finder.add(root)
    found = finder.listing
    if not found.photos:
        there = describe_left_out(found.left_out, len(found.runs))
        raise UsageError(
            f"no photos in {', '.join(roots) or 'nothing'}: expected files such as .jpg, .png, .heic or .tif"
            + (f" (there: {there})" if there else "")
        )
    if len(roots) == len(found.photos) == 1 and os.path.abspath(roots[0]) == found.photos[0].path:
        _check_only_photo(roots[0])
    return found


def _check_only_photo(path: str) -> None:
    """Tell at once that the only photo is none, before models are loaded for it."""
    try:
        check_header(path)
    except ImageError as error:
        reason = str(error)
        if "not an image" in reason:
            raise UsageError(f"{path} is not an image that PIL can read") from None
        raise UsageError(f"{path} cannot be labeled: {reason}") from None


class _Finder:
    """Adds up what the paths of one request are."""

    def __init__(self, dataset_paths: DatasetPaths | None) -> None:
        self._dataset_paths = dataset_paths
        self.listing = Listing([])
        self._suffixes = image_suffixes()
        self._seen: set[str] = set()
        self._taken: set[str] = set()
        self._counted: set[str] = set()  # folders whose files are in the counts

    def add(self, root: str) -> None:
        """Add what one argument stands for; raises as `find_photos` does."""
        if not root:
            raise UsageError("a path is empty: give a file, a folder or the name of a dataset")
        if is_address(root):
            self._add_bucket(root)
            return
        absolute = os.path.abspath(root)
        suffix = os.path.splitext(root)[1].lower()
        if os.path.isdir(absolute):
            if _is_run(absolute):
                raise UsageError(f"{root} is a run of gem-label: give its photos, or `relabel` the run")
            self._add_below(absolute, self._files_below(absolute))
        elif os.path.exists(absolute):
            if suffix in LIST_SUFFIXES:
                self._add_list(read_photo_list(absolute), os.path.dirname(absolute))
            elif suffix == ARCHIVE_SUFFIX:
                self._add_below(*self._unpacked(unpack_photos(absolute)))
            elif reason := refusal(root, suffix, self._suffixes):
                raise UsageError(reason)
            else:
                self._add_below(os.path.dirname(absolute), [absolute])
        else:
            self._add_dataset(root, suffix)

    def _add_list(self, lines: Iterable[str], folder: str) -> None:
        """Add what the lines of a list stand for, with ids relative to the list's folder where it holds them all."""
        paths = [photo for line in lines for photo in self._listed(line)]
        self._add_below(_folder_of(folder, paths), paths)

    def _listed(self, path: str) -> Iterable[str]:
        """The photos that a line of a list stands for; what is no photo, folder or zip is counted as left out."""
        suffix = os.path.splitext(path)[1].lower()
        if is_address(path) or suffix in self._suffixes:
            return [path]
        if os.path.isdir(path):
            return self._files_below(path)
        if suffix == ARCHIVE_SUFFIX and os.path.exists(path):
            return self._unpacked(unpack_photos(path))[1]
        if suffix in LIST_SUFFIXES or refusal(path, suffix, self._suffixes):
            self.listing.left_out[suffix] += 1
            return []
        return [path]

    def _unpacked(self, unpacked: Unpacked) -> tuple[str, list[str]]:
        """The folder and the photos of a zip."""
        self.listing.left_out.update(unpacked.left_out)
        self.listing.done.append(unpacked.note)
        return unpacked.folder, unpacked.paths

    def _add_bucket(self, address: str) -> None:
        """Add the photos below an address, or the one at it."""
        suffix, folder = os.path.splitext(address)[1].lower(), address.rpartition("/")[0]
        if suffix in self._suffixes:
            self._add_below(folder, [address])
            return
        buckets = Buckets()
        if suffix in LIST_SUFFIXES or suffix == ARCHIVE_SUFFIX:
            with _fetched(buckets, address) as path:
                if suffix == ARCHIVE_SUFFIX:
                    self._add_below(*self._unpacked(unpack_into_store(path, address, buckets)))
                else:
                    self._add_list(read_photo_list(path, address), folder)
            return
        root = address.rstrip("/")
        below = buckets.names_below(root)
        photos = []
        for each in below:
            *folders, name = each[len(root) + 1 :].split("/")
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or any(map(is_passed_over, folders)):
                continue
            if suffix in self._suffixes:
                photos.append(each)
            else:
                self.listing.left_out[suffix] += 1
        self._add_below(root, photos)

    def _add_dataset(self, name: str, suffix: str) -> None:
        if os.sep in name or suffix in self._suffixes:
            raise UsageError(f"no such file or folder: {name}")
        if self._dataset_paths is None:
            raise UsageError(f"no such file or folder: {name}")
        try:
            paths = self._dataset_paths(name)
        except UsageError:
            raise
        except GemLabelError as error:
            raise UsageError(
                f"no such file or folder: {name} (nor can datasets be looked up: {error})"
            ) from error
        if paths is None:
            raise UsageError(f"no such file, folder or dataset: {name}")
        self.listing.done.append(f"{name}: {len(paths)} photos of the FiftyOne dataset of that name")
        self._add_below(_folder_of(None, paths), paths)

    def _add_below(self, folder: str, paths: Iterable[str]) -> None:
        """Add absolute paths with ids relative to a folder that holds them all."""
        start = len(os.path.join(folder, ""))
        for path in paths:
            if path not in self._seen:
                self._seen.add(path)
                photo = Photo(path, unique_image_id(path, path[start:], self._taken))
                self.listing.photos.append(photo)

    def _files_below(self, root: str) -> Iterator[str]:
        """Yield absolute paths of the photos under a folder, sorted in each; links to folders are followed once."""
        visited: set[tuple[int, int]] = set()

        def refuse(error: OSError) -> None:
            raise GemLabelError(f"cannot list {error.filename}: {error.strerror}") from error

        for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:  # a link back to where we have been
                subfolders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            if "manifest.json" in names and _is_run(folder):
                subfolders.clear()
                if folder not in self._counted:
                    self._counted.add(folder)
                    self.listing.runs.append(folder)
                continue
            subfolders[:] = sorted(name for name in subfolders if not is_passed_over(name))
            left_out = self.listing.left_out if folder not in self._counted else Counter()
            self._counted.add(folder)
            for name in sorted(names):
                if name.startswith("."):
                    continue
                suffix = os.path.splitext(name)[1].lower()
                if suffix in self._suffixes:
                    yield os.path.join(folder, name)
                else:
                    left_out[suffix] += 1


@contextmanager
def _fetched(buckets: Buckets, address: str) -> Iterator[str]:
    """A list or an archive of a store as a file of this machine."""
    try:
        with buckets.as_file(address) as path:
            yield os.fspath(path)
    except FileNotFoundError:
        raise UsageError(f"no such file: {address}") from None
    except ImageError as error:
        raise GemLabelError(str(error)) from error


def _is_run(folder: str) -> bool:
    """Whether a folder is a run directory: by its manifest, as data sets have files of that name, too."""
    path = os.path.join(folder, "manifest.json")
    if not os.path.exists(path):
        return False
    if not any(os.path.exists(os.path.join(folder, name)) for name in ("masks", "images.jsonl")):
        return False
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "settings", "vocabulary"} <= manifest.keys()


def photo_folder(paths: Iterable[str]) -> str:
    """The innermost folder or address that holds all photos, "" where there is none.

    Args:
        paths: absolute paths of the photos; iterated once.
    """
    # all paths begin with what the first and the last in their order have in common
    first = last = ""
    for path in paths:
        first, last = min(first or path, path), max(last, path)
    if is_address(first) or is_address(last):
        folders = zip(*(path.split("/")[:-1] for path in (first, last)), strict=False)
        common = "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], folders))
        return common if common.partition("://")[2] else ""
    return os.path.commonpath([os.path.dirname(path) for path in (first, last)]) if last else ""


def _folder_of(preferred: str | None, paths: list[str]) -> str:
    """The folder that ids are relative to: the preferred one where it holds all paths, else the innermost."""
    common = photo_folder(paths)
    return preferred if preferred is not None and _is_below(common, preferred) else common


def _is_below(folder: str, above: str) -> bool:
    return os.path.join(folder, "").startswith(os.path.join(above, ""))
