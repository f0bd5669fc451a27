"""Photos from a bucket, and a run in one: the same as from a folder and in one."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fiftyone_fixture import fiftyone_db
from PIL import Image
from random_run import rows_of
from shared_worker import join, work
from store_servers import SECRET, bucket
from test_engines import JOB, run_photos, save
from test_generations import label as label_random
from test_shared_runs import COLORS, content

from gem_label.cli import run as gem_label
from gem_label.errors import GemLabelError, ImageError, UsageError
from gem_label.photos.listing import find_photos, photo_folder
from gem_label.photos.reading import read_image
from gem_label.review import push_run
from gem_label.runs import open_run, relabel_run, search_run
from gem_label.runs.changed_photos import note_of_changed
from gem_label.runs.export import export_run
from gem_label.runs.repair import check_run
from gem_label.stores import open_store, put
from gem_label.vocabulary import Vocabulary

__all__ = ["bucket", "fiftyone_db"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten photos, two of them in a folder; four fail. A file that is no photo, and some that are passed over."""
    colors = {f"{i:02d}": color for i, color in enumerate(COLORS * 2)}
    folder = save(tmp_path / "photos", **{name: colors[name] for name in list(colors)[:8]})
    save(folder / "more", **{name: colors[name] for name in list(colors)[8:]})
    (folder / "broken.jpg").write_text("no photo")
    (folder / "notes.csv").write_text("1")
    (folder / ".hidden.png").touch()
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_db")
def test_a_run_in_a_bucket_goes_into_a_dataset(bucket: str, photos: str, folder: Path) -> None:
    import fiftyone as fo

    from gem_label.review.app import dataset_of_run

    out = f"{bucket}/pushed"
    work(str(folder), out, 0, 1)
    run = open_run(out)
    assert push_run(run, "bucket").photos == 6
    assert fo.load_dataset("bucket").count("gem_label.detections") == 8
    assert dataset_of_run(out) == "bucket"
    with pytest.raises(UsageError, match="its masks go into the database"):
        push_run(run, "bucket", mask_storage="disk")
    work(photos, f"{bucket}/remote", 0, 1)
    with pytest.raises(UsageError, match="FiftyOne shows files"):
        push_run(open_run(f"{bucket}/remote"), "remote")


@pytest.fixture
def photos(bucket: str, folder: Path) -> str:
    """The same in the bucket."""
    store = open_store(f"{bucket}/photos")
    for path in folder.rglob("*.*"):
        store.create(str(path.relative_to(folder)), path.read_bytes())
    return store.address


def test_photos_of_a_bucket(photos: str, folder: Path) -> None:
    found = find_photos([f"{photos}/"])
    assert [photo.image_id for photo in found.photos][:3] == ["00", "01", "02"]
    assert found.photos[-1].image_id == "more/09"
    assert found.left_out == {".csv": 1}
    assert photo_folder(photo.path for photo in found.photos) == photos
    assert photo_folder([f"{photos}/a.jpg", "/photos/a.jpg"]) == ""
    assert photo_folder(["s3://one/a.jpg", "s3://two/a.jpg"]) == ""
    assert (read_image(f"{photos}/more/08.png") == read_image(folder / "more" / "08.png")).all()
    assert len(find_photos([f"{photos}/00.png"]).photos) == 1
    listed = folder / "list.txt"
    listed.write_text(f"{photos}/01.png\n{folder / '00.png'}\n")
    assert [photo.path for photo in find_photos([str(listed)]).photos] == [
        f"{photos}/01.png",
        str(folder / "00.png"),
    ]
    with pytest.raises(ImageError, match="vanished"):
        read_image(f"{photos}/missing.png")
    with pytest.raises(UsageError, match="no photos in"):
        find_photos([f"{photos}/nothing"])
    with pytest.raises(GemLabelError, match="write scheme://bucket/name"):
        find_photos(["s3:///photos"])


def test_lists_and_zips_of_a_bucket(bucket: str, folder: Path) -> None:
    store = open_store(f"{bucket}/listed")
    photos = store.address
    for name in ("00.png", "more/08.png"):
        store.create(name, (folder / name).read_bytes())
    expected = [f"{photos}/more/08.png", f"{photos}/00.png"]
    store.create("lists/list.txt", b"# the best\n../more/08.png\n" + f"{photos}/00.png\n".encode())
    store.create("lists/table.csv", b"score,URI\n1,../more/08.png\n2," + f"{photos}/00.png\n3,\n".encode())
    table = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2], "path": expected}), table)
    store.create("lists/table.parquet", table.getvalue())
    for name in ("list.txt", "table.csv", "table.parquet"):
        found = find_photos([f"{photos}/lists/{name}"]).photos
        assert [photo.path for photo in found] == expected
        assert [photo.image_id for photo in found] == ["more/08", "00"]
    with pytest.raises(UsageError, match=r"no such file: s3://photos/.*missing\.csv"):
        find_photos([f"{photos}/missing.csv"])

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.write(folder / "00.png", "a/00.png")
        file.write(folder / "01.png", "01.png")
        file.writestr("notes.txt", "1")
    store.create("lists/some.zip", archive.getvalue())
    for written, there in ((2, ""), (0, ", found there: 2")):
        listing = find_photos([f"{photos}/lists/some.zip"])
        assert listing.done == [
            f"{photos}/lists/some.zip: photos unpacked into {photos}/lists/some: {written}{there}"
        ]
        assert listing.left_out == {".txt": 1}
        assert [(photo.path, photo.image_id) for photo in listing.photos] == [
            (f"{photos}/lists/some/01.png", "01"),
            (f"{photos}/lists/some/a/00.png", "a/00"),
        ]
    assert (read_image(f"{photos}/lists/some/a/00.png") == read_image(folder / "00.png")).all()
    put(store, "lists/some/01.png", b"another")
    with pytest.raises(GemLabelError, match=r"some/01\.png is there and differs from"):
        find_photos([f"{photos}/lists/some.zip"])


def test_a_run_in_a_bucket_is_the_run_in_a_folder(
    bucket: str, photos: str, folder: Path, tmp_path: Path
) -> None:
    run_photos(folder, tmp_path / "one")
    out = f"{bucket}/run"
    work(photos, out, 1, 2)
    with pytest.raises(GemLabelError, match="2 of 3 chunks are missing"):
        join(out).finish()
    work(photos, out, 0, 2)
    assert join(out).finish() == open_run(tmp_path / "one").manifest["counts"]
    names = sorted(open_store(out).names("masks/"))
    assert names == [f"masks/shard-{i:06d}.parquet" for i in range(3)]

    # it is read where it is
    run, expected = open_run(out), open_run(tmp_path / "one")
    assert content(run) == content(expected)
    assert [photo.path for photo in run.listing()] == [f"{photos}/{i:02d}.png" for i in range(8)] + [
        f"{photos}/{name}" for name in ("broken.jpg", "more/08.png", "more/09.png")
    ]
    assert (run.patches(1) == expected.patches(1)).all()
    assert [hit.mask_id for hit in search_run(run, JOB.text[0], 3)] == ["00#0", "00#1", "05#0"]
    export_run(run, tmp_path / "labels.json")
    coco = json.loads((tmp_path / "labels.json").read_text())
    assert [image["file_name"] for image in coco["images"]][:2] == ["00.png", "01.png"]
    assert len(coco["annotations"]) == 8

    # and gets new words in a folder
    words, text = Vocabulary.parse("blue", background="red, green"), JOB.text[[2, 0, 1]]
    blue = relabel_run(run, words, text, out=tmp_path / "blue")
    assert blue.manifest["counts"]["kept"] == 4
    assert len(blue.failures()) == 5
    assert [each.image_id for each in blue.listing()] == [each.image_id for each in run.listing()]
    assert (blue.patches(1) == run.patches(1)).all()
    # and in its place
    again = relabel_run(open_run(out), words, text)
    assert content(again) == content(blue)
    assert content(open_run(out)) == content(blue)
    with pytest.raises(GemLabelError, match="was relabeled since it was opened"):
        list(run.tables())
    store = open_store(out)
    assert not list(store.names("masks/"))
    assert not [name for name in store.names("") if SECRET.encode() in store.read(name)]
    with pytest.raises(GemLabelError, match="is not a run"):
        open_run(f"{bucket}/nothing")


def picture(color: str) -> bytes:
    """A photo of one color as PNG."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(content, "png")
    return content.getvalue()


def test_a_photo_of_a_bucket_that_is_replaced_is_noticed(bucket: str) -> None:
    place = f"{bucket}/{uuid4().hex}"
    store = open_store(f"{place}/photos")
    for name, color in (("a.png", "red"), ("b.png", "white")):
        store.create(name, picture(color))
    work(store.address, f"{place}/run", 0, 1)
    join(f"{place}/run").finish()
    run = open_run(f"{place}/run")
    assert all(photo.tag for photo in run.photos())
    assert note_of_changed(run.photos()) is None
    put(store, "a.png", picture("lime"))
    assert str(note_of_changed(run.photos())).startswith(
        f"1 photo was replaced after labeling, such as {store.address}/a.png: "
    )
    assert check_run(f"{place}/run").notes == [note_of_changed(run.photos())]


def test_a_run_in_a_bucket_is_repaired(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{bucket}/{uuid4().hex}"
    store = open_store(address)
    label_random(store, 3).finish()
    expected = rows_of(open_run(address))
    shard = "masks/shard-000000.parquet"
    put(store, shard, bytes(len(store.read(shard))))
    with pytest.raises(GemLabelError, match=rf"`gem-label repair {address}` sets it aside"):
        rows_of(open_run(address))
    assert gem_label(["repair", address, "--check"]) == 1
    assert gem_label(["repair", address]) == 0
    assert "[moved to the folder damaged]" in capsys.readouterr().out
    label_random(store, 3).finish()
    assert rows_of(open_run(address)) == expected
