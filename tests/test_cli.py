"""The command line as users meet it: commands, what they print, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pillow_heif
import pytest
import torch
import yaml
from fiftyone_fixture import fiftyone_db  # noqa: F401 - a fixture
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import save_file

from gem_label.cli import options, run
from gem_label.clip.models import load_clip
from gem_label.defaults import DEFAULT_CLIP
from gem_label.doctor import Check, State, check_clip, check_sam, explain_import_error, report
from gem_label.runs import open_run
from gem_label.tables import columns

ROOT = Path(__file__).parents[1]
COMMANDS = (
    [], ["label"], ["relabel"], ["search"], ["export"], ["push"], ["review"],
    ["models"], ["models", "list"], ["models", "pull"], ["bench"], ["doctor"], ["demo"], ["eval", "labels"],
)  # fmt: skip
QUICK = ["--proposals", "exact", "--points-per-side", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP of random weights in open_clip's directory layout, small enough to run within a second."""
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    weights = {name: value.contiguous() for name, value in open_clip.CLIP(**config).state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    whole = {"model_cfg": config, "preprocess_cfg": {}, "dense_cfg": {"short_side": 128, "depth": 2}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return str(folder)


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, NDArray[np.uint8]]) -> Path:
    """Two small photos, and a file that only looks like one."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("astronaut", "coffee"):
        Image.fromarray(photos[name]).resize((128, 96)).save(folder / f"{name}.jpg")
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory, small_photos: Path, clip: str) -> Path:
    """A run over those photos."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ["--classes", "cup; person, astronaut => person", "--background", "wall"]
    assert run(["label", str(small_photos), *words, "--clip", clip, "--out", str(folder), *QUICK]) == 1
    return folder


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that a failed command leaves on stderr; nothing goes to stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("gem-label: ")
    return captured.err


def test_help_needs_neither_torch_nor_fiftyone() -> None:
    script = (
        "import sys\nfrom gem_label.cli import run\n"
        f"for command in {COMMANDS!r}:\n    assert run([*command, '--help']) == 0\n"
        "heavy = {'torch', 'torchvision', 'fiftyone', 'open_clip', 'segment_anything', 'timm', 'cv2', 'pyarrow'}\n"
        "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lable"], "lable"),
        (["label"], "PATH"),
        (["label", "."], "--out"),
        (["label", ".", "--out", "run"], "--classes-file"),
        (["label", ".", "--out", "run", "--classes", "cat", "--classes-file", "f"], "either"),
        (["label", ".", "--out", "run", "--classes", " , "], "at least one word"),
        (["label", ".", "--out", "run", "--classes-file", "not-there"], "not-there"),
        (["label", ".", "--out", "run", "--classes", "cat", "--words-per-image", "not-there"], "not-there"),
        (["label", "./not-there", "--out", "run", "--classes", "cat"], "no such file or folder: ./not-there"),
        (["label", ".", "--out", "run", "--classes", "cat", "--actors", "2"], "--engine ray"),
        (["label", ".", "--out", "run", "--classes", "cat", "--points-per-side", "many"], "points-per-side"),
        (["export", "run", "--out", "f", "--format", "voc"], "coco"),
        (["models", "pull", "resnet"], "mobile_sam"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2_and_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert says in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["search", str(tmp_path), "cat"], ["export", str(tmp_path), "--out", "f"]):
        assert run(arguments) == 1
        assert "gem-label label" in one_line(capsys)


def test_label_takes_the_documented_models_unless_told_otherwise(tmp_path: Path, small_photos: Path) -> None:
    assert inspect.signature(load_clip).parameters["name"].default == DEFAULT_CLIP == "ViT-B-16/openai"
    # a hub that holds nothing and does not answer
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-m", "gem_label.cli", "label", str(small_photos), "--classes", "cat"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], env=offline, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert DEFAULT_CLIP in done.stderr
    assert "--clip demo" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_label_goes_on_where_it_stopped_and_says_what_failed(
    labeled: Path, small_photos: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_run(labeled).manifest["counts"]
    assert (before["photos"], before["failed"]) == (2, 1)
    words = ["--classes", "cup; person, astronaut => person", "--background", "wall"]
    capsys.readouterr()

    assert run(["label", str(small_photos), *words, "--clip", clip, "--out", str(labeled), *QUICK]) == 1
    captured = capsys.readouterr()
    assert open_run(labeled).manifest["counts"] == before
    broken = small_photos / "broken.jpg"
    assert (
        f"gem-label: {broken} could not be labeled: broken: not an image that PIL can read (see "
        in captured.err
    )
    rows = [line.split() for line in captured.out.splitlines()[1:]]
    for name in ("photos", "masks", "kept"):
        assert [name, str(before[name])] in rows
    assert f"gem-label show {labeled}" in captured.err
    assert captured.out.count("cup") == captured.out.count("person") == 1
    failure = json.loads((labeled / "failures.jsonl").read_text())
    assert (failure["image_id"], failure["stage"]) == ("broken", "read")


@pytest.mark.slow
def test_label_takes_a_zip_and_a_list_and_says_what_it_did(
    tmp_path: Path, small_photos: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(small_photos / "coffee.jpg") as image:
        pillow_heif.from_pillow(image).save(tmp_path / "phone.heic")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.write(tmp_path / "phone.heic", "sub/phone.heic")
        archive.writestr("notes.txt", "notes")
    (tmp_path / "list.txt").write_text(
        f"gone.jpg\n{small_photos / 'coffee.jpg'}\n{small_photos / 'broken.jpg'}\n"
    )
    sources = [str(tmp_path / "zipped.zip"), str(tmp_path / "list.txt")]
    command = ["label", *sources, "--classes", "cup", "--clip", clip, "--out", str(tmp_path / "run"), *QUICK]
    assert run(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{tmp_path / 'zipped.zip'}: photos unpacked into {tmp_path / 'zipped'}: 1"
    assert said[1] == "left out: 1 .txt"
    assert said[-1] == (
        "gem-label: 2 of 4 photos could not be labeled: 1 vanished: the file is not there any more; 1 broken: not "
        f"an image that PIL can read (see {tmp_path / 'run/failures.jsonl'})"
    )
    done = [Path(photo.image) for photo in open_run(tmp_path / "run").photos()]
    assert done == [tmp_path / "zipped/sub/phone.heic", small_photos / "coffee.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("a.mp4", b"", "videos are not supported"), ("a.pdf", b"%PDF", "PDFs are not supported"),
     ("a.json", b"{}", "is no photo: expected photos"), ("a.jpg", b"text", "is not an image that PIL can read"),
     ("a.zip", b"text", "no zip archive"), ("a.txt", b"b.jpg", "none of its 1 paths exists")],
)  # fmt: skip
def test_what_is_no_photo_is_told_before_models_load(
    name: str, content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    arguments = ["--classes", "cat", "--clip", "no such model", "--sam", "no such model"]
    assert run(["label", str(tmp_path / name), *arguments, "--out", str(tmp_path / "run")]) == 2
    assert says in one_line(capsys)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.slow
def test_label_refuses_a_run_of_other_settings(
    labeled: Path, small_photos: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["label", str(small_photos), "--classes", "cup, horse", "--clip", clip]
    assert run([*command, "--out", str(labeled), *QUICK]) == 2
    line = one_line(capsys)
    assert "horse" in line
    assert "gem-label relabel" in line


def test_words_are_compared_as_the_text_encoder_sees_them(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["relabel", str(labeled), "--negatives", "none", "--out", str(tmp_path / "again"), "--classes"]
    assert run([*again, 'fish & chips, "fish &amp; chips"']) == 2
    assert "'fish & chips' and 'fish &amp; chips' have the same tokens" in one_line(capsys)
    assert run([*again, "cat, " + "very " * 80 + "old dog"]) == 2
    assert "has 89 tokens in the prompt" in one_line(capsys)
    assert run([*again, "bear, Bear"]) == 2
    assert "'bear' and 'Bear' differ only in case" in one_line(capsys)
    assert not (tmp_path / "again").exists()

    assert run([*again, "cat, 猫, red собака", "--background", "empty 猫"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("note: the text encoder cannot know 猫, собака: its tokenizer has only") == 1
    assert captured.err.count("\n") == 1


def test_a_long_name_does_not_break_the_counts(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(["very"] * 40)
    words = ["--classes", f"cat, 猫, {long}", "--negatives", "none"]
    assert run(["relabel", str(labeled), *words, "--out", str(tmp_path / "again")]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert max(columns(line) for line in lines) < 80
    assert lines[-1].startswith("without a label: 3: cat")
    assert long in open_run(tmp_path / "again").manifest["counts"]["kept_by_class"]


@pytest.mark.slow
def test_relabel_search_and_export_follow(
    labeled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the run remembers where its CLIP is
    assert run(["relabel", str(labeled), "--classes", "helmet, spoon", "--out", "again"]) == 0
    again = open_run("again")
    assert again.vocabulary.classes == ("helmet", "spoon")
    assert open_run(labeled).vocabulary.classes == ("cup", "person")
    masks = again.manifest["counts"]["masks"]
    capsys.readouterr()
    assert run(["relabel", "again", "--classes", "helmet", "--mask-tokens", "1"]) == 2
    assert "holds no mask tokens" in one_line(capsys)

    assert run(["search", "again", "a silver spoon", "--top", "4"]) == 0
    header, *hits = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == ["similarity", "mask_id", "label", "bbox", "image"]
    assert len(hits) == min(4, masks)
    assert [float(hit[0]) for hit in hits] == sorted((float(hit[0]) for hit in hits), reverse=True)
    assert all(Path(hit[4]).is_file() for hit in hits)

    assert run(["export", "again", "--out", "coco.json", "--segmentation", "polygon"]) == 0
    coco = COCO("coco.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["helmet", "spoon"]
    assert len(coco.getAnnIds()) == again.manifest["counts"]["kept"]


@pytest.mark.slow
def test_an_interrupted_label_says_how_to_go_on(tmp_path: Path, small_photos: Path, clip: str) -> None:
    folder = tmp_path / "run"
    arguments = ["label", str(small_photos), "--classes", "cup", "--clip", clip, "--out", str(folder)]
    command = [
        sys.executable,
        "-m",
        "gem_label.cli",
        *arguments,
        "--device",
        "cpu",
        "--proposals",
        "exact",
    ]  # 32 x 32 prompts: minutes
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs deaf to SIGINT, and what they start inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "images.jsonl").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)  # photos that are being labeled are finished first
    finally:
        process.kill()  # nothing to a process that has ended
    assert process.returncode == options.INTERRUPTED
    assert errors.splitlines()[-1] == "gem-label: interrupted; the same command resumes the run"
    assert open_run(folder).manifest["finished"] is False


@pytest.mark.slow
def test_push_puts_a_run_into_fiftyone(
    labeled: Path,
    fiftyone_db: str,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    import fiftyone as fo

    for _ in range(2):
        assert run(["push", str(labeled), "--dataset", "cli-test", "--field", "masks"]) == 0
        assert "cli-test" in capsys.readouterr().out
    dataset = fo.load_dataset("cli-test")
    assert len(dataset) == 2
    assert dataset.count("masks.detections") == open_run(labeled).manifest["counts"]["kept"]


@pytest.mark.slow
def test_the_label_folder_recipe_runs(tmp_path: Path, small_photos: Path, clip: str) -> None:
    recipe = ROOT / "pipelines" / "label_folder.py"
    settings = yaml.safe_load(recipe.with_suffix(".yaml").read_text())
    settings |= {"photos": str(small_photos), "out": str(tmp_path / "out"), "clip": clip}
    settings["proposals"] |= {"points_per_side": 3, "max_prompts": 9}
    coco = runpy.run_path(str(recipe))["label_folder"](settings)
    assert {image["file_name"] for image in COCO(coco).dataset["images"]} == {"astronaut.jpg", "coffee.jpg"}


def test_models_lists_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path))
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mobile_sam", "vit_b", "vit_l", "vit_h", "CLIP:"]
    assert "not here" in lines[0]
    assert "gem-label models pull mobile_sam" in lines[0]


def test_doctor_fails_where_something_needed_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path))
    lines: list[str] = []
    assert report(check_sam(), lines.append) == 1
    assert lines[0].split(maxsplit=1)[0] == "missing"
    assert "gem-label models pull mobile_sam" in lines[0]
    note = Check("fiftyone", State.NOTE, "only push and review need it")
    assert report(iter([note]), lines.append) == 0


@pytest.mark.slow
def test_doctor_is_content_with_this_machine(
    fiftyone_db: str,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(["doctor", "--clip", "demo"])
    out = capsys.readouterr().out
    assert code == 0, out
    states = {line[8:28].strip(): line[:8].strip() for line in out.splitlines()[:-1]}
    for name in (
        "python",
        "torch",
        "device",
        "open_clip",
        "clip demo",
        "sam mobile_sam",
        "fiftyone",
        "mongod",
    ):
        assert states[name] == "ok", out


def test_doctor_says_how_to_bring_a_clip_that_no_hub_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    absent = check_clip("ViT-L-14/laion2b_s32b_b82k")
    assert absent.state is State.MISSING
    assert "open_clip_model.safetensors of laion/CLIP-ViT-L-14-laion2B-s32B-b82K" in absent.detail
    assert "pass ViT-L-14/FILE" in absent.detail
    assert check_clip("ViT-B-16/nobody").state is State.MISSING
    file = tmp_path / "weights.safetensors"
    file.touch()
    assert check_clip(f"ViT-B-16/{file}") == Check(f"clip ViT-B-16/{file}", State.OK, str(file))
    assert [check.state for check in check_sam(str(tmp_path / "none.pth"))][-1] is State.MISSING


def test_a_missing_system_library_is_named_with_its_package() -> None:
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    assert "apt-get install libgl1" in explain_import_error(error, "opencv-python-headless")
    absent = explain_import_error(ModuleNotFoundError("No module named 'timm'"), "timm")
    assert absent.endswith("-m pip install 'timm'")


@pytest.mark.slow
def test_demo_labels_its_scenes(
    tmp_path: Path,
    fiftyone_db: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import fiftyone as fo

    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time finds everything done
        assert run(["demo", "--dataset", "demo-test", "--max-prompts", "4", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "gem-label review demo-test" in out
    scenes = open_run("demo-out/run").manifest["counts"]["photos"]
    assert scenes == 12
    assert len(list(Path("demo-out/overlays").glob("*.jpg"))) == scenes
    assert len(COCO("demo-out/annotations.json").getImgIds()) == scenes
    assert Image.open("demo-out/contact-sheet.jpg").size > (0, 0)
    assert len(fo.load_dataset("demo-test")) == scenes
