"""`python -m rcnn_edu.validate`: its report, its one-line errors and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rcnn_edu.data import SHAPE_CLASSES, VOCDataset, write_shapes
from rcnn_edu.errors import UserError
from rcnn_edu.validate import main, validate


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", train=5, val=3, size=(64, 96))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, and standard error."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out.splitlines(), printed.err


def break_png(root: Path, image_id: str) -> None:
    """Replace an image by a PNG that has its size and its end, but cannot be decoded."""
    path = root / "JPEGImages" / f"{image_id}.png"
    Image.effect_noise((96, 64), 50).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    path.with_suffix(".jpg").unlink()


def test_a_clean_dataset(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, error = run(capsys, dataset, "--classes", *SHAPE_CLASSES)
    assert code == 0
    assert lines[0] == f"{dataset}: train 5, trainval 8, val 3 images"
    assert lines[-1] == "0 problems"
    assert "8/8" in error, "progress goes to standard error"
    table = {words[0]: [int(n) for n in words[1:]] for words in map(str.split, lines[2:]) if len(words) == 4}.get
    both = VOCDataset(dataset, "trainval", SHAPE_CLASSES)
    labels = [annotation.labels.tolist() for annotation in both.annotations]
    for number, name in enumerate(SHAPE_CLASSES, start=1):
        images, objects = sum(number in one for one in labels), sum(one.count(number) for one in labels)
        assert table(name) == [images, objects, 0]
    assert table("all") == [8, sum(map(len, labels)), 0]
    assert "image size: width 96 to 96, height 64 to 64, area 6144 to 6144 pixels" in lines


def test_difficult_objects_are_counted(dataset: Path) -> None:
    xml = dataset / "Annotations" / "train_00000.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1"))
    report = validate(dataset, classes=SHAPE_CLASSES)
    hard = len(VOCDataset(dataset, "train", SHAPE_CLASSES).annotations[0].labels)
    assert report.lines()[-4].split()[-1] == str(hard)


def test_every_problem_has_a_line(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, images = dataset / "Annotations", dataset / "JPEGImages"
    (annotations / "train_00000.xml").unlink()
    (annotations / "train_00001.xml").write_text("<annotation>")
    (images / "train_00002.jpg").write_bytes((images / "train_00002.jpg").read_bytes()[:500])
    break_png(dataset, "val_00000")
    bad = "<object><name>gnu</name></object><object><name>star</name><bndbox></bndbox></object></annotation>"
    xml = annotations / "val_00001.xml"
    xml.write_text(xml.read_text().replace("</annotation>", bad))
    code, lines, _ = run(capsys, dataset, "--classes", *SHAPE_CLASSES)
    assert code == 1
    assert lines[-1] == "6 problems"
    for file, words in {
        "train_00000.xml": "no such annotation",
        "train_00001.xml": "not well-formed",
        "train_00002.jpg": "cannot be read",
        "val_00000.png": "cannot be decoded",
    }.items():
        [line] = [line for line in lines if file in line]
        assert words in line
    objects = [line for line in lines if "val_00001.xml" in line]
    assert len(objects) == 2
    assert "'gnu'" in objects[0]
    assert "xmin is missing" in objects[1]


def test_one_split(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "Annotations" / "train_00000.xml").unlink()
    code, lines, _ = run(capsys, dataset, "--split", "val", "--classes", *SHAPE_CLASSES)
    assert code == 0
    assert lines[0] == f"{dataset}: val 3 images"
    code, lines, _ = run(capsys, dataset, "--split", "train", "val", "--classes", *SHAPE_CLASSES)
    assert code == 1
    assert f"{dataset}: train 5, val 3 images" in lines


def test_classes(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, dataset, "--discover-classes")
    assert code == 0
    assert [name for name in sorted(SHAPE_CLASSES) if any(line.startswith(name) for line in lines)]
    code, lines, _ = run(capsys, dataset)
    assert code == 1, "shapes are none of VOC's classes"
    assert "not one of the 20 classes" in lines[0]
    assert run(capsys, dataset, "--discover-classes", "--classes", "star")[0] == 2


def test_images_in_two_lists_are_a_leak(dataset: Path) -> None:
    lists = dataset / "ImageSets" / "Main"
    with (lists / "val.txt").open("a") as file:
        file.write("train_00003\ntrain_00001\n")
    [problem] = validate(dataset, classes=SHAPE_CLASSES).problems
    assert problem.file.endswith("val.txt")
    assert "2 of its images are in train too (as train_00001)" in problem.message
    (lists / "val.txt").write_text("val_00000\n")
    (lists / "test.txt").write_text("val_00002\n")
    [problem] = validate(dataset, classes=SHAPE_CLASSES).problems
    assert problem.file.endswith("test.txt")


def test_a_repeated_id_is_found_in_every_list(dataset: Path) -> None:
    for name in ("train", "trainval"):
        with (dataset / "ImageSets" / "Main" / f"{name}.txt").open("a") as file:
            file.write("train_00003\n")
    problems = validate(dataset, classes=SHAPE_CLASSES).problems
    assert [Path(problem.file).name for problem in problems] == ["train.txt", "trainval.txt"]


def test_lists_for_single_classes_are_left_out(dataset: Path) -> None:
    (dataset / "ImageSets" / "Main" / "star_train.txt").write_text("gone 1\n")
    assert validate(dataset, classes=SHAPE_CLASSES).problems == []


def test_nothing_to_check(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([tmp_path / "nowhere"], [tmp_path], [dataset, "--split", "gone"]):
        code, lines, error = run(capsys, *arguments)
        assert (code, lines) == (2, [])
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    for path in (dataset / "ImageSets" / "Main").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no lists of images"):
        validate(dataset)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == 2
    assert run(capsys, "a", "--gnu")[0] == 2
    code, lines, _ = run(capsys, "--help")
    assert code == 0
    assert "--split" in "\n".join(lines)


def test_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rcnn_edu.validate", str(tmp_path / "nowhere")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_an_empty_list_is_one_problem_and_the_others_are_checked(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = dataset / "ImageSets" / "Main"
    (lists / "val.txt").write_text("\n")
    break_png(dataset, "train_00001")
    code, lines, _ = run(capsys, dataset, "--classes", *SHAPE_CLASSES)
    assert code == 1
    assert f"{lists / 'val.txt'}: the list is empty; write an image id on each line" in lines
    assert any("train_00001.png: cannot be decoded" in line for line in lines)
    code, _, error = run(capsys, dataset, "--split", "val")
    assert code == 2
    assert "the list is empty" in error
