"""`python -m rcnn_edu.detect`: what it reads, writes, prints and answers, with a small model that knows the answer."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnn_edu import detect
from rcnn_edu.config import Config
from rcnn_edu.detect import main, run, with_threshold
from rcnn_edu.errors import UserError
from rcnn_edu.media import decode, find_files


class RedFinder:
    """Finds the bounding box of red pixels, calls it "red" at 0.9, and adds a weak and a wrong guess."""

    classes = ("blue", "red")
    config = Config()

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, images: list[torch.Tensor], /) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        self.seen.append(image)
        red = (image[0] > 0.6) & (image[1] < 0.4) & (image[2] < 0.4)
        ys, xs = torch.where(red)
        if not len(ys):
            return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}]
        box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        return [
            {
                "boxes": torch.stack([box / 2, box, box]),
                "labels": torch.tensor([1, 2, 1]),
                "scores": torch.tensor([0.3, 0.9, 0.6]),
            }
        ]


def photo(path: Path, size: tuple[int, int] = (80, 60), **options: Any) -> Path:
    """A grey picture with a red rectangle from (10, 20) to (30, 50)."""
    pixels = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
    pixels[20:50, 10:30] = (255, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def records(output: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((output / "detections.json").read_text())
    return listed


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "made" / "output"


# --- what is written -----------------------------------------------------------------------------------------------


def test_one_photo(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "in" / "cat.png")
    model = RedFinder()
    assert run([source], model, output) == 0
    assert records(output) == [
        {
            "file": str(source),
            "picture": "cat.png",
            "width": 80,
            "height": 60,
            "detections": [
                {"label": "red", "score": 0.9, "box": [10.0, 20.0, 30.0, 50.0]},
                {"label": "blue", "score": 0.6, "box": [10.0, 20.0, 30.0, 50.0]},
            ],
        }
    ]
    assert capsys.readouterr() == (f"{source} -> {output / 'cat.png'}: red 0.90, blue 0.60\n", "")
    drawn = pixels_of(output / "cat.png")
    assert drawn.shape == (60, 80, 3)
    assert (drawn == (0xE6, 0x9F, 0x00)).all(axis=2).any()  # the colour of kept boxes
    (image,) = model.seen
    assert image.shape == (3, 60, 80)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() == 1


def test_threshold_decides_what_is_kept(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "cat.png")
    run([source], RedFinder(), output, score_threshold=0.2)
    assert [each["score"] for each in records(output)[0]["detections"]] == [0.9, 0.6, 0.3]
    run([source], RedFinder(), output, score_threshold=0.95)
    assert records(output)[0]["detections"] == []
    assert "nothing from 0.95 on" in capsys.readouterr().out
    np.testing.assert_array_equal(pixels_of(output / "cat.png"), pixels_of(source))  # nothing drawn


def test_a_folder_is_done_in_order_of_names(tmp_path: Path, output: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.webp", ".hidden.png", "sub/d.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run([tmp_path / "in"], RedFinder(), output) == 0
    assert [Path(each["file"]).name for each in records(output)] == ["a.PNG", "b.jpg", "c.webp"]
    assert sorted(path.name for path in output.iterdir()) == ["a.PNG", "b.jpg", "c.png", "detections.json"]
    for name, kind in (("a.PNG", "PNG"), ("b.jpg", "JPEG"), ("c.png", "PNG")):
        with Image.open(output / name) as image:
            assert image.format == kind


def test_same_names_in_two_folders_stay_apart(tmp_path: Path, output: Path) -> None:
    one, two = photo(tmp_path / "1" / "cat.jpg"), photo(tmp_path / "2" / "cat.jpg", (100, 60))
    three, four = photo(tmp_path / "3" / "Cat.JPG", (120, 60)), photo(tmp_path / "3" / "cat_2.jpg", (140, 60))
    run([one, two, three, four, one], RedFinder(), output)
    listed = records(output)
    assert [each["picture"] for each in listed] == ["cat.jpg", "cat_2.jpg", "Cat_3.JPG", "cat_2_2.jpg"]
    assert [pixels_of(output / each["picture"]).shape[1] for each in listed] == [80, 100, 120, 140]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_they_were_taken(tmp_path: Path, output: Path, orientation: int) -> None:
    upright = photo(tmp_path / "upright.png")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that stores a picture under each orientation
    with Image.open(upright) as image:
        stored = image.transpose(Image.Transpose(undo[orientation])) if orientation in undo else image.copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    run([tmp_path / "turned.png"], RedFinder(), output)
    (record,) = records(output)
    assert (record["width"], record["height"]) == (80, 60)
    assert record["detections"][0]["box"] == [10, 20, 30, 50]
    assert pixels_of(output / "turned.png").shape == (60, 80, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
def test_all_kinds_of_pixels_become_rgb(tmp_path: Path, mode: str) -> None:
    with Image.open(photo(tmp_path / "a.png")) as image:
        if mode == "I;16":
            kind = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            kind = image.convert(mode)
        path = tmp_path / ("b.tif" if mode == "CMYK" else "b.png")
        kind.save(path)
        expected = np.array(image.convert("L").convert("RGB"))
    ((name, pixels),) = decode(path)
    assert name == str(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (60, 80, 3)
    if mode in ("L", "LA", "I;16"):
        np.testing.assert_array_equal(pixels, expected)


def test_large_and_tiny_pictures(tmp_path: Path, output: Path) -> None:
    large = photo(tmp_path / "large.png", (2500, 700))
    Image.new("RGB", (1, 1), "red").save(tmp_path / "tiny.png")
    assert run([large, tmp_path / "tiny.png"], RedFinder(), output) == 0
    assert pixels_of(output / "large.png").shape == (700, 2500, 3)
    assert pixels_of(output / "tiny.png").shape == (1, 1, 3)


def test_nothing_found_is_an_answer(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (30, 20), "white").save(tmp_path / "white.png")
    assert run([tmp_path / "white.png"], RedFinder(), output) == 0
    assert records(output)[0]["detections"] == []
    assert capsys.readouterr().out.endswith(": nothing from 0.5 on\n")


def test_results_are_kept_when_interrupted(tmp_path: Path, output: Path) -> None:
    class Interrupted(RedFinder):
        def __call__(self, images: list[torch.Tensor], /) -> list[dict[str, torch.Tensor]]:
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(images)

    sources = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")]
    with pytest.raises(KeyboardInterrupt):
        run(sources, Interrupted(), output)
    assert [each["picture"] for each in records(output)] == ["a.png"]


# --- what goes wrong -----------------------------------------------------------------------------------------------


def damaged(path: Path) -> Path:
    whole = photo(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def test_one_bad_image_among_many(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "in" / "a.jpg")
    bad = damaged(tmp_path / "in" / "b.jpg")
    photo(tmp_path / "in" / "c.jpg")
    assert run([tmp_path / "in"], RedFinder(), output) == 1
    assert [each["picture"] for each in records(output)] == ["a.jpg", "c.jpg"]
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {bad}: cannot be read")
    assert last == "1 of 3 inputs could not be read; the others are done"


def test_only_bad_images(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [damaged(tmp_path / "a.png"), tmp_path / "text.jpg"]
    bad[1].write_text("not an image")
    with pytest.raises(UserError, match="none of 2 inputs could be read"):
        run(bad, RedFinder(), output)
    assert len(capsys.readouterr().err.splitlines()) == 2
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(damaged, or not an image\); replace it"):
        run(bad[:1], RedFinder(), output)
    assert not (output / "detections.json").exists()


def test_a_decompression_bomb_is_refused(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        run([source], RedFinder(), output)


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cat\.jpg: no such file or folder"):
        find_files([tmp_path / "cat.jpg"])
    with pytest.raises(UserError, match=r"empty: no image in this folder"):
        find_files([tmp_path / "empty"])
    with pytest.raises(UserError, match="nothing to do; give at least one"):
        find_files([])


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    source = photo(tmp_path / "cat.png")
    before = source.read_bytes()
    for inputs in ([source], [tmp_path]):
        with pytest.raises(UserError, match=r"cat\.png lies here and would be overwritten; choose another --output"):
            run(inputs, RedFinder(), tmp_path / "x" / "..")
    assert source.read_bytes() == before


def test_output_that_cannot_be_a_folder(tmp_path: Path) -> None:
    source = photo(tmp_path / "in" / "cat.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be made \(.+\); choose another --output"):
        run([source], RedFinder(), tmp_path / "file")


@pytest.mark.parametrize(
    ("values", "name"), [({"score_threshold": 1.5}, "--score-threshold"), ({"every": 0}, "--every")]
)
def test_values_out_of_range(tmp_path: Path, output: Path, values: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is"):
        run([photo(tmp_path / "cat.png")], RedFinder(), output, **values)


# --- the command line ----------------------------------------------------------------------------------------------


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    return exited.value.code


def test_the_model_finds_what_is_asked_for() -> None:
    config = Config()
    assert config.detection.score_threshold == 0.05
    for asked, needed in ((0.0, 0.0), (0.02, 0.02), (0.5, 0.05)):
        assert with_threshold(config, asked).detection.score_threshold == needed


def test_command_line(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any) -> RedFinder:
        asked.extend(arguments)
        return RedFinder()

    monkeypatch.setattr(detect, "load", load)
    source = str(photo(tmp_path / "in" / "cat.png"))
    options = ("--model", "mine.pt", "--output", str(output), "--score-threshold", "0.7", "--device", "cpu")
    assert exit_code(source, *options) == 0
    assert asked == ["mine.pt", torch.device("cpu")]
    assert len(records(output)[0]["detections"]) == 1
    damaged(tmp_path / "in" / "dog.png")
    assert exit_code(str(tmp_path / "in"), *options) == 1


def test_photos_are_searched_with_the_shipped_detector_of_photos(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load(*arguments: Any) -> RedFinder:
        asked.extend(arguments)
        return RedFinder()

    monkeypatch.setattr(detect, "load", load)
    assert exit_code(str(photo(tmp_path / "in" / "cat.png")), "--output", str(output), "--device", "cpu") == 0
    assert asked[0] == "voc-demo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: nothing to do; give at least one image"),
        (["missing.jpg"], "error: missing.jpg: no such file or folder"),
        (["{photo}", "--model", "no-such-model"], "error: no-such-model: "),
        (["{photo}", "--device", "abacus"], "error: device abacus cannot be used"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    source = photo(tmp_path / "cat.png")
    assert exit_code(*(each.format(photo=source) for each in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    for word in ("INPUT", "--model", "--output", "--score-threshold", "--every", "--device", "Exit code"):
        assert word in shown


# --- videos --------------------------------------------------------------------------------------------------------


class FFmpegError(Exception):
    strerror = "Invalid data"


class FakeContainer:
    """Five frames, of which the red rectangle moves; "broken" in the name breaks it after three."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.decoded = 0
        self.streams = SimpleNamespace(video=[] if "sound" in path else [SimpleNamespace()])

    def __enter__(self) -> FakeContainer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def decode(self, video: int) -> Any:
        for number in range(5):
            if number == 3 and "broken" in self.path:
                raise FFmpegError
            pixels = np.full((48, 64, 3), 128, dtype=np.uint8)
            pixels[10:20, 10 + number : 20 + number] = (255, 0, 0)
            self.decoded += 1
            rotation = -90 if "phone" in self.path else 0
            yield SimpleNamespace(to_ndarray=lambda format, pixels=pixels: pixels, rotation=rotation)


@pytest.fixture
def fake_av(monkeypatch: pytest.MonkeyPatch) -> list[FakeContainer]:
    opened: list[FakeContainer] = []
    module: Any = ModuleType("av")

    def open_(path: str) -> FakeContainer:
        opened.append(FakeContainer(path))
        return opened[-1]

    module.open = open_
    module.error = SimpleNamespace(FFmpegError=FFmpegError)
    monkeypatch.setitem(sys.modules, "av", module)
    return opened


@pytest.mark.usefixtures("fake_av")
def test_every_second_frame_of_a_video(tmp_path: Path, output: Path) -> None:
    clip = tmp_path / "clip.MP4"
    clip.touch()
    assert run([clip], RedFinder(), output, every=2) == 0
    listed = records(output)
    assert [each["file"] for each in listed] == [f"{clip}#0", f"{clip}#2", f"{clip}#4"]
    assert [each["picture"] for each in listed] == ["clip_000000.jpg", "clip_000002.jpg", "clip_000004.jpg"]
    assert [each["detections"][0]["box"][0] for each in listed] == [10, 12, 14]
    assert pixels_of(output / "clip_000004.jpg").shape == (48, 64, 3)


def test_frames_are_decoded_one_at_a_time(fake_av: list[FakeContainer]) -> None:
    frames = decode(Path("clip.mp4"))
    next(frames)
    assert fake_av[0].decoded == 1


@pytest.mark.usefixtures("fake_av")
def test_videos_of_phones_are_turned() -> None:
    (_, pixels), *_ = decode(Path("phone.mp4"))
    assert pixels.shape == (64, 48, 3)
    assert (pixels[10, -11] == (255, 0, 0)).all()  # left top before, right top after a quarter turn clockwise


@pytest.mark.usefixtures("fake_av")
def test_a_broken_video_keeps_what_was_read(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("broken.mp4", "sound.mkv"):
        (tmp_path / name).touch()
    assert run([tmp_path / "broken.mp4", tmp_path / "sound.mkv"], RedFinder(), output) == 1
    assert len(records(output)) == 3
    first, second, _ = capsys.readouterr().err.splitlines()
    assert "broken.mp4: cannot be read (Invalid data)" in first
    assert "sound.mkv: holds no video" in second


def test_a_video_without_its_package(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(UserError, match=r'clip\.mp4: videos need the package av; pip install "rcnn_edu\[video\]"'):
        run([tmp_path / "clip.mp4"], RedFinder(), output)
    assert run([tmp_path / "clip.mp4", photo(tmp_path / "cat.png")], RedFinder(), output) == 1
    assert "pip install" in capsys.readouterr().err


def test_a_real_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="videos are optional")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), dtype=np.uint8)
        pixels[:24, :32] = (255, 0, 0)
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    frames = list(decode(path, every=2))
    assert [name for name, _ in frames] == [f"{path}#{number}" for number in (0, 2, 4)]
    assert np.abs(frames[0][1].astype(int) - pixels).mean() < 8

    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # where MP4 says how the picture is to be turned: a quarter clockwise
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    (_, turned), *_ = decode(path)
    assert turned.shape == (64, 48, 3)
    assert np.abs(turned[5, -5].astype(int) - (255, 0, 0)).max() < 30

    path.write_bytes(content[:200])
    with pytest.raises(UserError, match=r"clip\.mp4: cannot be read"):
        list(decode(path))
