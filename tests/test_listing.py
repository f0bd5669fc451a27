"""gem_label.photos.listing: what is listed, and what else may stand where photos are expected."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fiftyone_fixture import fiftyone_db  # noqa: F401 - a fixture
from PIL import Image
from pyarrow import csv
from run_factory import make_run

from gem_label.cli.photos import describe_failures
from gem_label.errors import GemLabelError, UsageError
from gem_label.photos.listing import find_photos, list_images
from gem_label.review.storage.dataset_paths import dataset_paths


def test_listing_a_folder(tmp_path: Path) -> None:
    for name in [
        "b.jpg",
        "a.PNG",
        "sub/c.webp",
        "sub/c.jpg",
        ".hidden.jpg",
        ".cache/d.jpg",
        "notes.txt",
        "e.pdf",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = list_images([tmp_path])
    assert [photo.image_id for photo in photos] == ["a", "b", "sub/c", "sub/c.webp"]
    assert [os.path.relpath(photo.path, tmp_path) for photo in photos] == [
        "a.PNG",
        "b.jpg",
        "sub/c.jpg",
        "sub/c.webp",
    ]


def test_listing_several_paths_gives_each_photo_once_and_ids_stay_unique(tmp_path: Path) -> None:
    for name in ["x/a.jpg", "y/a.jpg", "z/a.jpg", "odd.name"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = list_images(
        [tmp_path / "x", tmp_path / "y", tmp_path / "z", tmp_path / "x/a.jpg", tmp_path / "odd.name"]
    )
    assert [photo.image_id for photo in photos] == ["a", "a.jpg", "a.jpg~2", "odd"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").touch()
    (tmp_path / "in/up").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "in")
    assert len(list_images([tmp_path])) == 1


def test_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photos"):
        list_images([tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        list_images([tmp_path / "gone"])


def touch(folder: Path, *names: str) -> None:
    """Empty files, with their folders."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_phone_formats_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic", "b.HEIF", "c.avif", "d.mpo", "e.hif", "f.palm", "g.pdf")
    assert [photo.image_id for photo in list_images([tmp_path])] == ["a", "b", "c", "d", "e"]


def test_what_is_left_out_is_counted_by_suffix_in_one_line(tmp_path: Path) -> None:
    names = [f"{i}.txt" for i in range(12)] + ["a.MP4", "b.mp4", "sub/c.mkv", "d.zip", "README", "e.pdf"]
    touch(tmp_path, "photo.jpg", ".DS_Store", "sub/.hidden.txt", *names)
    found = find_photos([tmp_path, tmp_path / "sub"])  # a folder that is given twice counts once
    assert found.notes() == [
        "left out: 12 .txt, 2 .mp4 (videos are not supported), 1 without suffix, 1 .mkv (videos are not supported), "
        "1 .pdf (PDFs are not supported), 1 .zip (give a zip by its name)"
    ]
    touch(tmp_path / "many", "photo.jpg", *(f"a.x{i}" for i in range(30)))
    assert find_photos([tmp_path / "many"]).notes()[0].endswith(", 1 .x15, 22 with 22 other suffixes")
    touch(tmp_path / "only", "photo.jpg")
    assert find_photos([tmp_path / "only"]).notes() == []


def test_folders_of_machines_are_not_listed(tmp_path: Path) -> None:
    machines = [
        "@eaDir",
        "__MACOSX",
        ".zfs/snapshot",
        "#recycle",
        "@Recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        ".cache",
    ]
    touch(tmp_path, "a.jpg", *(f"{folder}/a.jpg/SYNOPHOTO_THUMB_M.jpg" for folder in machines))
    assert [photo.image_id for photo in list_images([tmp_path])] == ["a"]


def test_a_run_inside_the_photos_does_not_label_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    run = make_run(tmp_path / "out" / "run", {})
    touch(run.path, "fiftyone_masks/a/1.png", "overlays/a.jpg", "patches/1.png")
    # a data set of somebody else that has such names, too
    touch(tmp_path, "data/manifest.json", "data/masks/b.png", "data/images.jsonl")
    (tmp_path / "data/manifest.json").write_text('{"version": 1}')
    found = find_photos([tmp_path])
    assert [photo.image_id for photo in found.photos] == ["a", "data/masks/b"]
    assert found.notes() == ["left out: 1 .json, 1 .jsonl, 1 run of gem-label"]
    with pytest.raises(UsageError, match="is a run of gem-label"):
        find_photos([run.path])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_list_of_paths(tmp_path: Path, encoding: str, newline: str) -> None:
    touch(tmp_path / "lists" / "photos", "a.jpg", "ä b.png", "sub/c.jpg")
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "d.jpg")
    lines = ["# chosen", "", "photos/ä b.png", "photos/sub/c.jpg", "  photos/a.jpg", "photos/gone.jpg"]
    lines.append("photos/a.jpg")
    (tmp_path / "lists/list.txt").write_bytes((newline.join(lines)).encode(encoding))
    found = find_photos([tmp_path / "lists/list.txt"])
    names = ["photos/ä b", "photos/sub/c", "photos/a", "photos/gone"]
    assert [
        photo.image_id for photo in found.photos
    ] == names  # what is missing is recorded as a failure later
    assert found.photos[0].path == str(tmp_path / "lists/photos/ä b.png")
    # ids are relative to a folder that holds all, and never lead out of it
    lines.append(str(elsewhere / "d.jpg"))
    (tmp_path / "lists/list.TXT").write_bytes((newline.join(lines)).encode(encoding))
    ids = [photo.image_id for photo in list_images([tmp_path / "lists/list.TXT"])]
    assert ids == [*(f"lists/{name}" for name in names), "elsewhere/d"]


def test_folders_and_zips_in_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "one.jpg", "folder/a.jpg", "folder/sub/b.png", "folder/notes.md", "gone/c.jpg")
    write_zip(tmp_path / "more.zip", {"in/d.jpg": b"D", "read.me": b"R"})
    touch(tmp_path, "v.mp4", "other.txt", "data.json", "unknown.xyz")
    shutil.rmtree(tmp_path / "gone")
    lines = [
        "one.jpg",
        "folder",
        "more.zip",
        "v.mp4",
        "other.txt",
        "data.json",
        "unknown.xyz",
        "gone",
        "folder/a.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = find_photos([tmp_path / "list.txt"])
    names = ["one", "folder/a", "folder/sub/b", "more/in/d", "unknown", "gone"]
    assert [photo.image_id for photo in found.photos] == names
    note, left_out = found.notes()
    assert note.startswith(f"{tmp_path / 'more.zip'}: photos unpacked into")
    assert left_out == "left out: 1 .json, 1 .md, 1 .me, 1 .mp4 (videos are not supported), 1 .txt"


def test_a_list_of_no_photos_is_told_before_models_are_loaded(tmp_path: Path) -> None:
    touch(tmp_path, "v.mp4", "empty/notes.md")
    (tmp_path / "list.txt").write_text("v.mp4\nempty\nlist.txt\n")
    with pytest.raises(
        UsageError, match=r"no photos in .*1 \.md, 1 \.mp4 \(videos are not supported\), 1 \.txt"
    ):
        find_photos([tmp_path / "list.txt"])


def test_names_in_a_list_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xe4.jpg"
    with open(name, "wb"):
        pass
    (tmp_path / "list.txt").write_bytes(b"\xe4.jpg\n")
    assert os.fsencode(list_images([tmp_path / "list.txt"])[0].path) == name


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "lists no photos"), (b"# only\n\n", "lists no photos"), (b"\n\ncat, dog\nred car\n", "none of its 2 paths "
     "exists, the first is in line 3: cat, dog"), (b"a.jpg\nb\0c\n", "line 2: not a path"),
     ("a.jpg".encode("utf-16") + b"\x00", "cannot read the list")],
)  # fmt: skip
def test_a_text_file_that_is_no_list(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UsageError, match=says) as raised:
        find_photos([tmp_path / "list.txt"])
    assert "\n" not in str(raised.value)


def write_zip(path: Path, members: dict[str, bytes], **options: int) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_zip_is_unpacked_once_beside_itself(tmp_path: Path) -> None:
    members = {
        "in/a.jpg": b"A",
        "in/b.png": b"B",
        "notes.txt": b"N",
        "__MACOSX/in/._a.jpg": b"M",
        ".c.jpg": b"C",
    }
    write_zip(tmp_path / "photos.zip", members)
    found = find_photos([tmp_path / "photos.zip"])
    assert [photo.image_id for photo in found.photos] == ["in/a", "in/b"]
    assert [Path(photo.path).read_bytes() for photo in found.photos] == [b"A", b"B"]
    assert found.notes() == [
        f"{tmp_path / 'photos.zip'}: photos unpacked into {tmp_path / 'photos'}: 2",
        "left out: 1 .txt",
    ]
    assert sorted(os.listdir(tmp_path / "photos/in")) == ["a.jpg", "b.png"]
    # the second time they are there, whoever unpacked them; one that is missing is brought back
    os.utime(tmp_path / "photos/in/a.jpg")
    (tmp_path / "photos/in/b.png").unlink()
    again = find_photos([tmp_path / "photos.zip"])
    assert again.photos == found.photos
    assert again.notes()[0].endswith(f"photos unpacked into {tmp_path / 'photos'}: 1, found there: 1")
    (tmp_path / "photos/in/a.jpg").write_bytes(b"Z")
    with pytest.raises(GemLabelError, match=r"in/a\.jpg is there and differs"):
        find_photos([tmp_path / "photos.zip"])
    assert (tmp_path / "photos/in/a.jpg").read_bytes() == b"Z"


@pytest.mark.parametrize(
    "name", ["../a.jpg", "in/../../a.jpg", "/tmp/a.jpg", "..\\a.jpg", "C:\\a.jpg", "../a.txt"]
)
def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "z.zip", {"fine.jpg": b"", name: b"evil"})
    with pytest.raises(UsageError, match="a path outside of the archive"):
        find_photos([tmp_path / "z.zip"])
    assert os.listdir(tmp_path) == ["z.zip"]


def test_a_zip_with_a_link_or_over_a_link(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("in/a.jpg", b"A")
    (tmp_path / "z").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "z/in").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GemLabelError, match="is a link to elsewhere"):
        find_photos([tmp_path / "z.zip"])
    (tmp_path / "z/in").unlink()
    assert [photo.image_id for photo in list_images([tmp_path / "z.zip"])] == ["in/a"]
    assert os.listdir(tmp_path / "elsewhere") == []


def test_zips_that_cannot_be_unpacked_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"

    def error() -> str:
        with pytest.raises(GemLabelError) as raised:
            find_photos([path])
        assert "\n" not in str(raised.value)
        return str(raised.value)

    path.write_bytes(b"no zip")
    assert "no zip archive" in error()
    write_zip(path, {"a.jpg": b"A" * 1000})
    data = bytearray(path.read_bytes())
    header = data.index(b"PK\x01\x02")
    encrypted = data.copy()
    encrypted[header + 8] |= 1
    path.write_bytes(encrypted)
    assert "is encrypted: unpack it with its password" in error()
    bomb = data.copy()
    bomb[header + 24 : header + 28] = (4_000_000_000).to_bytes(4, "little")
    path.write_bytes(bomb)
    assert "declares 4.0 GB of photos in 0.0 MB: is it a zip bomb?" in error()
    unknown = data.copy()
    for place in (8, header + 10):
        unknown[place : place + 2] = (97).to_bytes(2, "little")
    path.write_bytes(unknown)
    assert "unpack it and give the folder" in error()
    damaged = data.copy()
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert "damaged" in error()
    assert not [name for _, _, names in os.walk(tmp_path / "z") for name in names]
    write_zip(path, {"notes.txt": b"N"})
    assert "no photos" in error()
    path.write_bytes(data)
    shutil.rmtree(tmp_path / "z", ignore_errors=True)
    (tmp_path / "z").write_text("in the way")
    assert "cannot unpack" in error()


def test_a_scrambled_zip_is_an_error_or_photos(tmp_path: Path) -> None:
    path, rng = tmp_path / "z.zip", random.Random(0)
    write_zip(path, {"in/a.jpg": b"A" * 300, "b.png": b"B" * 20}, compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    for _ in range(200):
        broken = bytearray(data[: rng.randint(1, len(data))] if rng.random() < 0.2 else data)
        for _ in range(3):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        with contextlib.suppress(GemLabelError):  # and nothing else
            find_photos([path])
        shutil.rmtree(tmp_path / "z", ignore_errors=True)
    assert os.listdir(tmp_path) == ["z.zip"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.mp4", "is a video, and videos are not supported: get frames out"), ("a.MOV", "videos are not supported"),
     ("a.mkv", "videos are not supported"), ("a.pdf", "PDFs are not supported: get pages out"),
     ("a.json", "is no photo: expected photos, folders, a .txt list"), ("a.csv", "has no column of paths"),
     ("a.parquet", "cannot read the list of photos"),
     ("a.pth", "is no photo"), ("a.tar.gz", "only .zip is"), ("a.mp3", "is no photo")],
)  # fmt: skip
def test_what_is_no_photo_says_what_may_stand_there(tmp_path: Path, name: str, says: str) -> None:
    touch(tmp_path, name, "photo.jpg")
    with pytest.raises(UsageError, match=says) as raised:
        find_photos([tmp_path / "photo.jpg", tmp_path / name])
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


def test_an_empty_path_is_not_this_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match="a path is empty"):
        find_photos([tmp_path, ""])


def test_the_only_photo_is_looked_at_before_models_are(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no photo")
    touch(tmp_path, "empty.jpg", "folder/b.jpg")
    with pytest.raises(UsageError, match=r"a\.jpg is not an image that PIL can read"):
        find_photos([tmp_path / "a.jpg"])
    with pytest.raises(UsageError, match=r"empty\.jpg cannot be labeled: empty"):
        find_photos([tmp_path / "empty.jpg"])
    # one of several is recorded as a failure later, and so is what a folder holds
    assert len(find_photos([tmp_path / "a.jpg", tmp_path / "empty.jpg"]).photos) == 2
    assert len(find_photos([tmp_path / "folder"]).photos) == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "good", "PNG")
    assert len(find_photos([tmp_path / "good"]).photos) == 1


def test_the_name_of_a_dataset(
    fiftyone_db: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fiftyone as fo

    monkeypatch.chdir(tmp_path)
    name = f"photos-{tmp_path.name}"
    paths = [str(tmp_path / "data" / path) for path in ("x/b.jpg", "x/a.jpg", "y/a.jpg")]
    dataset = fo.Dataset(name)
    dataset.add_samples([fo.Sample(filepath=path) for path in paths])
    found = find_photos([name], dataset_paths)
    assert [(photo.path, photo.image_id) for photo in found.photos] == [
        (paths[1], "x/a"), (paths[0], "x/b"), (paths[2], "y/a")
    ]  # fmt: skip
    assert found.notes() == [f"{name}: 3 photos of the FiftyOne dataset of that name"]
    with pytest.raises(UsageError, match=f"no such file or folder: ./{name}"):
        find_photos([f"./{name}"], dataset_paths)
    with pytest.raises(UsageError, match="no such file, folder or dataset: nobody-has-this"):
        find_photos(["nobody-has-this"], dataset_paths)
    with pytest.raises(UsageError, match=r"no such file or folder: photo\.jpg"):
        find_photos(["photo.jpg"], dataset_paths)
    empty, videos = fo.Dataset(f"{name}-empty"), fo.Dataset(f"{name}-videos")
    videos.add_sample(fo.Sample(filepath="a.mp4"))
    with pytest.raises(UsageError, match="has no photos"):
        find_photos([empty.name], dataset_paths)
    with pytest.raises(UsageError, match="holds videos: only images"):
        find_photos([videos.name], dataset_paths)
    touch(tmp_path, f"{name}/c.jpg")  # a folder of that name comes first
    assert [photo.image_id for photo in list_images([name], dataset_paths)] == ["c"]
    for each in (dataset, empty, videos):
        each.delete()


def test_the_reasons_of_failures_in_one_line() -> None:
    file = Path("RUN/failures.jsonl")
    assert describe_failures([("/p/a.jpg", "broken: cut")], 5, file) == (
        "/p/a.jpg could not be labeled: broken: cut (see RUN/failures.jsonl)"
    )
    reasons = (
        [f"truncated ({i} bytes not processed)" for i in range(5)] + 3 * ["empty"] + 2 * ["vanished", "dark"]
    )
    failures = [(f"{i}.jpg", reason) for i, reason in enumerate([*reasons, "odd"])]
    assert describe_failures(failures, 40, file) == (
        "13 of 40 photos could not be labeled: 5 truncated (N bytes not processed); 3 empty; 2 vanished; 3 for other "
        "reasons (see RUN/failures.jsonl)"
    )


def write_table(path: Path, columns: dict[str, list[str | None]]) -> Path:
    """A table as its suffix says."""
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        options = csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        csv.write_csv(table, path, options)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("name", ["uri", "Path", "file_name"])
def test_a_table_with_a_column_of_paths(tmp_path: Path, suffix: str, name: str) -> None:
    touch(tmp_path, "in/a, b.jpg", "in/c d.jpg")
    uris: list[str | None] = [
        "in/a, b.jpg",
        f"file://{tmp_path}/in/c%20d.jpg",
        None,
        "s3://b/e.jpg",
        "in/a, b.jpg",
    ]
    path = write_table(tmp_path / f"t.{suffix}", {"notes": list("12345"), name: uris})
    paths = [photo.path for photo in list_images([path])]
    assert paths == [f"{tmp_path}/in/a, b.jpg", f"{tmp_path}/in/c d.jpg", "s3://b/e.jpg"]
    alone = write_table(tmp_path / f"alone.{suffix}", {"whatever": uris[:2]})
    assert [photo.path for photo in list_images([alone])] == paths[:2]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_that_lists_no_photos(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    for columns, says in [
        ({"label": ["a"], "score": ["1"]}, r"name it uri, path or image \(its columns: label, score\)"),
        ({"path": [None], "x": ["1"]}, "lists no photos: it takes a path in each row"),
        ({"path": ["gone.jpg"], "x": ["1"]}, "none of its 1 paths exists"),
    ]:
        write_table(path, columns)
        with pytest.raises(UsageError, match=says):
            find_photos([path])
    path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"has no column of paths|cannot read the list of photos"):
        find_photos([path])


def test_a_column_of_numbers_is_none_of_paths(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="its column image is of int64, and paths are text"):
        find_photos([tmp_path / "t.parquet"])
