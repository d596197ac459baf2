"""The VOC reader: what it makes of good files, of the odd files of real annotation tools, and of bad ones."""

from __future__ import annotations

import math
import os
import pickle
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rcnn_edu.data import VOC_CLASSES, VOCDataset
from rcnn_edu.errors import UserError

WIDTH, HEIGHT = 100, 80


# --- building datasets -------------------------------------------------------------------------------------------


def pixels(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def object_xml(
    name: str | None = "dog", box: Sequence[object] | None = (11, 21, 50, 60), difficult: object = 0, extra: str = ""
) -> str:
    ends = ("xmin", "ymin", "xmax", "ymax")
    bounds = "" if box is None else "".join(f"<{k}>{v}</{k}>" for k, v in zip(ends, box, strict=True) if v is not None)
    parts = [
        "" if name is None else f"<name>{escape(name)}</name>",
        "" if difficult is None else f"<difficult>{difficult}</difficult>",
        "" if box is None else f"<bndbox>{bounds}</bndbox>",
    ]
    return f"<object>{''.join(parts)}{extra}</object>"


def annotation_xml(*objects: str, size: tuple[object, object] | None = (WIDTH, HEIGHT), filename: str = "") -> str:
    claim = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    named = f"<filename>{escape(filename)}</filename>" if filename else ""
    return f"<annotation>{named}{claim}{''.join(objects)}</annotation>"


def add(root: Path, image_id: str, *objects: str, split: str = "trainval", suffix: str = ".jpg", xml: str = "") -> Path:
    """One more image in a dataset; returns the image's path."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / f"{image_id}.xml").write_text(xml or annotation_xml(*(objects or [object_xml()])))
    image = root / "JPEGImages" / f"{image_id}{suffix}"
    pixels().save(image, format="PNG" if suffix.lower() == ".png" else "JPEG")
    with (root / "ImageSets" / "Main" / f"{split}.txt").open("a") as file:
        file.write(f"{image_id}\n")
    return image


def error_of(
    root: Path, split: str = "trainval", classes: Sequence[str] | None = VOC_CLASSES, skip_bad: bool = False
) -> str:
    """The message with which reading fails; it must be one line."""
    with pytest.raises(UserError) as caught:
        VOCDataset(root, split, classes, skip_bad)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- good files --------------------------------------------------------------------------------------------------


def test_the_twenty_classes_are_alphabetical() -> None:
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert (VOC_CLASSES[0], VOC_CLASSES[14], VOC_CLASSES[-1]) == ("aeroplane", "person", "tvmonitor")


def test_an_item(tmp_path: Path) -> None:
    path = add(
        tmp_path, "000012", object_xml("dog", (48, 240 // 8, 95, 80), 0), object_xml("person", (1, 1, 100, 80), 1)
    )
    dataset = VOCDataset(tmp_path)
    image, target = dataset[0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[47, 29, 95, 80], [0, 0, 100, 80]]
    assert target["labels"].dtype == torch.int64
    assert target["labels"].tolist() == [12, 15]
    assert target["difficult"].dtype == torch.bool
    assert target["difficult"].tolist() == [False, True]
    assert target["image_id"] == "000012"
    assert dataset.image_ids == ["000012"]
    assert dataset.aspect_ratios().tolist() == [WIDTH / HEIGHT]
    assert (dataset.problems, dataset.skipped_images) == ([], 0)


def test_items_are_copies(tmp_path: Path) -> None:
    add(tmp_path, "a")
    dataset = VOCDataset(tmp_path)
    dataset[0][1]["boxes"].zero_()
    assert dataset[0][1]["boxes"].tolist() == [[10, 20, 50, 60]]


def test_an_image_without_objects_stays(tmp_path: Path) -> None:
    add(tmp_path, "a", xml=annotation_xml())
    _, target = VOCDataset(tmp_path)[0]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == target["difficult"].shape == (0,)
    assert (target["labels"].dtype, target["difficult"].dtype) == (torch.int64, torch.bool)


def test_a_dataset_can_be_sent_to_worker_processes(tmp_path: Path) -> None:
    add(tmp_path, "a")
    copy = pickle.loads(pickle.dumps(VOCDataset(tmp_path)))
    assert copy[0][1]["boxes"].tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_root_may_be_the_folder_its_devkit_or_the_parent(tmp_path: Path, below: str) -> None:
    add(tmp_path / "VOCdevkit" / "VOC2007", "a")
    assert VOCDataset(tmp_path / below).root == tmp_path / "VOCdevkit" / "VOC2007"
    assert len(VOCDataset(str(tmp_path / below))) == 1


def test_several_years_are_named(tmp_path: Path) -> None:
    add(tmp_path / "VOCdevkit" / "VOC2007", "a")
    add(tmp_path / "VOCdevkit" / "VOC2012", "a")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        message = error_of(root)
        assert "VOC2007" in message
        assert "VOC2012" in message


def test_unusable_roots(tmp_path: Path) -> None:
    message = error_of(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "--data" in message
    assert "--download" in message
    assert "not in VOC layout" in error_of(tmp_path)
    (tmp_path / "file").touch()
    assert "is a file" in error_of(tmp_path / "file")


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"b\r\n\r\n  a  \r\n", ["b", "a"]),
        (b"\xef\xbb\xbfa", ["a"]),
        (b"a.jpg\nb.XML\n", ["a", "b"]),
        (b"a  1\nb -1\nc  0\n", ["a", "c"]),
        (b"my photo 1\nmy photo 2\n", ["my photo 1", "my photo 2"]),
        (b"my photo 1  1\nmy photo 2 -1\n", ["my photo 1"]),
    ],
)
def test_lists(tmp_path: Path, text: bytes, ids: list[str]) -> None:
    for image_id in ("a", "b", "c", "my photo 1", "my photo 2"):
        add(tmp_path, image_id)
    (tmp_path / "ImageSets" / "Main" / "mine.txt").write_bytes(text)
    assert VOCDataset(tmp_path, "mine").image_ids == ids


def test_a_missing_list_names_those_that_there_are(tmp_path: Path) -> None:
    add(tmp_path, "a", split="train")
    add(tmp_path, "b", split="val")
    add(tmp_path, "c", split="dog_train")
    message = error_of(tmp_path, split="test")
    assert "test.txt" in message
    assert message.endswith("train, val")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("\n")
    assert "empty" in error_of(tmp_path, split="val")


def test_an_id_listed_twice_is_a_problem(tmp_path: Path) -> None:
    add(tmp_path, "a")
    with (tmp_path / "ImageSets" / "Main" / "trainval.txt").open("a") as file:
        file.write("a\n")
    assert "'a' is listed 2 times" in error_of(tmp_path)
    dataset = VOCDataset(tmp_path, skip_bad=True)
    assert dataset.image_ids == ["a"]
    assert (len(dataset.problems), dataset.skipped_images) == (1, 0)


# --- what real annotation tools write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "box", "difficult"),
    [
        (annotation_xml(object_xml(difficult=None)), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(difficult="")), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(difficult="Unspecified")), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(difficult=" 1 ")), [10, 20, 50, 60], True),
        (annotation_xml(object_xml(difficult="True")), [10, 20, 50, 60], True),
        (annotation_xml(object_xml(), size=None), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(), size=(0, 0)), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(), size=("", "?")), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(), size=(" 100.0\n", 80)), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(box=("11.5", " 21.25\n", "50.75", "6e1"))), [10.5, 20.25, 50.75, 60], False),
        (annotation_xml(object_xml(name="\n  dog\t")), [10, 20, 50, 60], False),
        (
            annotation_xml(object_xml(extra="<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>")),
            None,
            False,
        ),
        ("\n\n" + annotation_xml(object_xml()), [10, 20, 50, 60], False),
        ('<?xml version="1.0" encoding="UTF-8"?>' + annotation_xml(object_xml()), [10, 20, 50, 60], False),
        (annotation_xml(object_xml(box=(0, 0, 100, 80))), [0, 0, 100, 80], False),  # a tool that counts from 0
        (annotation_xml(object_xml(box=(1, 1, 101, 81))), [0, 0, 100, 80], False),
        (annotation_xml(object_xml(box=(100, 80, 101, 81))), [99, 79, 100, 80], False),
    ],
)
def test_odd_but_usable_annotations(tmp_path: Path, xml: str, box: list[float] | None, difficult: bool) -> None:
    add(tmp_path, "a", xml=xml)
    _, target = VOCDataset(tmp_path)[0]
    assert target["boxes"].tolist() == [box or [10, 20, 50, 60]]
    assert target["labels"].tolist() == [12]
    assert target["difficult"].tolist() == [difficult]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".JPEG", ".jpeg", ".Jpg", ".png", ".PNG"])
@pytest.mark.parametrize("filename", ["", "other.jpg", "a", "C:\\photos\\a.jpg", "/home/me/a.jpg"])
def test_suffixes_and_file_names(tmp_path: Path, suffix: str, filename: str) -> None:
    path = add(tmp_path, "a", suffix=suffix, xml=annotation_xml(object_xml(), filename=filename))
    dataset = VOCDataset(tmp_path)
    assert dataset.annotations[0].image_path == path
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "filename", ["IMG_1234.JPG", "IMG_1234", "D:\\trip\\IMG_1234.JPG", "trip/IMG_1234.jpg", " IMG_1234 "]
)
def test_the_file_name_in_the_xml_finds_an_image_of_another_name(tmp_path: Path, filename: str) -> None:
    path = add(tmp_path, "000001", xml=annotation_xml(object_xml(), filename=filename))
    path.rename(path.with_name("IMG_1234.JPG"))
    assert VOCDataset(tmp_path).annotations[0].image_path.name == "IMG_1234.JPG"


def test_images_of_one_name_are_told_apart_by_the_xml(tmp_path: Path) -> None:
    add(tmp_path, "a", xml=annotation_xml(object_xml(), filename="a.png"))
    pixels().save(tmp_path / "JPEGImages" / "a.png")
    assert VOCDataset(tmp_path).annotations[0].image_path.suffix == ".png"


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB", "1", "P", "RGBA", "I;16"])
def test_colour_modes(tmp_path: Path, mode: str) -> None:
    path = add(tmp_path, "a", suffix=".png" if mode in ("1", "P", "RGBA", "I;16") else ".jpg")
    if mode == "I;16":
        Image.fromarray(np.full((HEIGHT, WIDTH), 300, dtype=np.uint16)).save(path)
    else:
        pixels().convert(mode).save(path)
    image, _ = VOCDataset(tmp_path)[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    if mode == "L":
        assert torch.equal(image[0], image[1])


def test_grey_of_16_bits_is_no_white(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    add(tmp_path, "a", object_xml(), suffix=".png")
    Image.fromarray(grey).save(tmp_path / "JPEGImages" / "a.png")
    image, _ = VOCDataset(tmp_path)[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    for channel in image:
        assert np.abs(channel.numpy() - grey / 257.0).max() <= 1


def test_annotations_of_an_upper_case_suffix(tmp_path: Path) -> None:
    xml = add(tmp_path, "a", object_xml(name="dog"))
    found = tmp_path / "Annotations" / "a.xml"
    found.rename(found.with_suffix(".XML"))
    assert len(VOCDataset(tmp_path)[0][1]["boxes"]) == 1
    assert VOCDataset(tmp_path, classes=None).classes == ("dog",), xml


def test_a_list_that_is_no_plain_text_is_named(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml())
    listed = tmp_path / "ImageSets" / "Main" / "trainval.txt"
    listed.write_text("a\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"trainval\.txt: is no plain text, or in UTF-16; save it as UTF-8"):
        VOCDataset(tmp_path)


@pytest.mark.parametrize("classes", ["cat,dog", "classes.txt"])
def test_one_word_for_all_classes_is_refused(tmp_path: Path, classes: str) -> None:
    add(tmp_path, "a", object_xml())
    with pytest.raises(UserError, match=rf"{classes}.*the names themselves, with spaces between them"):
        VOCDataset(tmp_path, classes=(classes,))


def test_the_command_that_lists_all_problems_has_the_same_classes(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml(name="cat"), object_xml(name="fish"))
    for classes, options in ((("dog", "red fish"), "--classes dog 'red fish'"), (VOC_CLASSES, "")):
        with pytest.raises(
            UserError, match=re.escape(f"rcnn_edu.validate {tmp_path} {options}".strip() + " lists all")
        ):
            VOCDataset(tmp_path, classes=classes)


def test_the_rotation_of_exif_is_not_applied(tmp_path: Path) -> None:
    path = add(tmp_path, "a")
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90° for showing
    pixels().save(path, exif=exif)
    dataset = VOCDataset(tmp_path)
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH)
    assert (dataset.annotations[0].width, dataset.annotations[0].height) == (WIDTH, HEIGHT)


def test_bytes_that_cameras_append_do_no_harm(tmp_path: Path) -> None:
    path = add(tmp_path, "a")
    path.write_bytes(path.read_bytes() + b"\x00SEFT" * 50)
    assert len(VOCDataset(tmp_path)) == 1


# --- classes -----------------------------------------------------------------------------------------------------


def test_classes_from_the_annotations_are_the_same_for_every_split(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml("van"), object_xml("bus"), split="train")
    add(tmp_path, "b", object_xml("bus"), object_xml("car", (5, 5, 1, 1)), split="val")
    add(tmp_path, "c", xml="<broken", split="other")
    train, val = VOCDataset(tmp_path, "train", None), VOCDataset(tmp_path, "val", None, skip_bad=True)
    assert train.classes == val.classes == ("bus", "car", "van")
    assert train[0][1]["labels"].tolist() == [3, 1]
    assert val[0][1]["labels"].tolist() == [1]


def test_classes_are_numbered_in_the_order_given(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml("van"), object_xml("bus"))
    assert VOCDataset(tmp_path, classes=["van", "bus"])[0][1]["labels"].tolist() == [1, 2]


@pytest.mark.parametrize("classes", [[], ["a", "a"], [""], "dog", ["dog", "__background__"]])
def test_impossible_class_lists(tmp_path: Path, classes: Sequence[str]) -> None:
    add(tmp_path, "a")
    assert "classes" in error_of(tmp_path, classes=classes)


def test_no_class_can_be_found(tmp_path: Path) -> None:
    add(tmp_path, "a", xml=annotation_xml())
    assert "--classes" in error_of(tmp_path, classes=None)


def test_a_subset_of_the_classes_keeps_the_other_images_as_background(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml("dog"), object_xml("cat"))
    add(tmp_path, "b", object_xml("cat"))
    dataset = VOCDataset(tmp_path, classes=("dog",), skip_bad=True)
    assert [len(annotation.labels) for annotation in dataset.annotations] == [1, 0]
    assert len(dataset.problems) == 2
    message = error_of(tmp_path, classes=("horse",), skip_bad=True)
    assert "cat, dog" in message
    assert "--classes" in message


# --- bad objects -------------------------------------------------------------------------------------------------

BAD_OBJECTS = {
    "inverted": (object_xml(box=(50, 21, 11, 60)), ["xmin 50", "xmax 11", "inverted"]),
    "inverted in y": (object_xml(box=(11, 60, 50, 21)), ["ymin 60", "inverted"]),
    "empty": (object_xml(box=(50, 21, 50, 60)), ["xmin 50", "empty"]),
    "right of the image": (object_xml(box=(11, 21, 102, 60)), ["xmax 102", "100x80"]),
    "below the image": (object_xml(box=(11, 21, 50, 82)), ["ymax 82", "100x80"]),
    "left of the image": (object_xml(box=(-1, 21, 50, 60)), ["xmin -1", "100x80"]),
    "wholly outside": (object_xml(box=(101, 21, 101.5, 60)), ["xmin 101", "100x80"]),
    "a sliver inside": (object_xml(box=(100.95, 21, 101, 60)), ["xmin 100.95", "100x80"]),
    "not a number": (object_xml(box=("ten", 21, 50, 60)), ["xmin", "'ten'", "not a number"]),
    "nan": (object_xml(box=(11, "nan", 50, 60)), ["ymin", "'nan'"]),
    "infinite": (object_xml(box=(11, 21, "1e999", 60)), ["xmax", "'1e999'"]),
    "decimal comma": (object_xml(box=(11, 21, "50,5", 60)), ["xmax", "'50,5'"]),
    "blank coordinate": (object_xml(box=(11, 21, " ", 60)), ["xmax", "missing"]),
    "absent coordinate": (object_xml(box=(11, 21, 50, None)), ["ymax", "missing"]),
    "no box": (object_xml(box=None), ["<bndbox>"]),
    "line breaks": (object_xml(box=("1\n2", 21, 50, 60)), [r"1\n2"]),
}
UNKNOWN_CLASSES = {
    "unknown class": (object_xml("gnu"), ["'gnu'", "20 classes", "--classes"]),
    "wrong case": (object_xml("Person"), ["'Person'", "did you mean 'person'"]),
    "no name": (object_xml(None), ["no class name"]),
    "a long name": (object_xml("x" * 1000), ["x" * 59 + "…", "20 classes"]),
}


@pytest.mark.parametrize("case", [*BAD_OBJECTS, *UNKNOWN_CLASSES])
def test_bad_objects(tmp_path: Path, case: str) -> None:
    bad, words = (BAD_OBJECTS | UNKNOWN_CLASSES)[case]
    add(tmp_path, "000007", object_xml("cat", (1, 2, 3, 4)), bad, object_xml("person", (5, 6, 7, 8)))
    message = error_of(tmp_path)
    for word in [*words, "000007.xml", "object 2", "--skip-bad", f"python -m rcnn_edu.validate {tmp_path}"]:
        assert word in message
    assert len(message) < 500
    assert "further" not in message

    dataset = VOCDataset(tmp_path, skip_bad=True)
    assert dataset[0][1]["labels"].tolist() == [8, 15]
    assert dataset[0][1]["boxes"].tolist() == [[0, 1, 3, 4], [4, 5, 7, 8]]
    [problem] = dataset.problems
    assert problem.file.endswith("000007.xml")
    assert problem.object.startswith("object 2")
    assert str(problem) == f"{problem.file}: {problem.object}: {problem.message}"
    assert dataset.skipped_images == 0


@pytest.mark.parametrize("case", BAD_OBJECTS)
def test_an_image_goes_with_its_last_object(tmp_path: Path, case: str) -> None:
    add(tmp_path, "good")
    add(tmp_path, "bad", BAD_OBJECTS[case][0])
    dataset = VOCDataset(tmp_path, skip_bad=True)
    assert dataset.image_ids == ["good"]
    assert (len(dataset.problems), dataset.skipped_images) == (1, 1)


def test_further_problems_are_counted(tmp_path: Path) -> None:
    add(tmp_path, "a", object_xml("gnu"), object_xml(box=(9, 9, 1, 1)))
    add(tmp_path, "b", xml="<broken")
    message = error_of(tmp_path)
    assert "gnu" in message
    assert "2 further problems" in message
    assert "none of its images" not in message
    (tmp_path / "Annotations" / "b.xml").write_text(annotation_xml())
    assert "1 further problem " in error_of(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-5, 110, width=32), min_size=4, max_size=4))
def test_any_box_is_either_inside_the_image_or_reported(tmp_path: Path, box: list[float]) -> None:
    if not (tmp_path / "JPEGImages").exists():
        add(tmp_path, "a")
    texts = [repr(value) for value in box]
    (tmp_path / "Annotations" / "a.xml").write_text(annotation_xml(object_xml(box=texts), object_xml("cat")))
    dataset = VOCDataset(tmp_path, skip_bad=True)
    x1, y1, x2, y2 = box[0] - 1, box[1] - 1, box[2], box[3]
    fits = min(x1, y1) >= -1 and x2 <= WIDTH + 1 and y2 <= HEIGHT + 1
    overlap = min(x2, WIDTH) - max(x1, 0) > 0.1 and min(y2, HEIGHT) - max(y1, 0) > 0.1
    usable = box[0] < box[2] and box[1] < box[3] and fits and overlap
    assert len(dataset.problems) == (0 if usable else 1)
    read = dataset[0][1]["boxes"]
    assert (read[:, :2] >= 0).all()
    assert (read[:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all()
    assert (read[:, :2] < read[:, 2:]).all()
    if usable:
        expected = [max(x1, 0), max(y1, 0), min(x2, WIDTH), min(y2, HEIGHT)]
        assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(read[0].tolist(), expected, strict=True))


# --- bad images and annotation files -----------------------------------------------------------------------------

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>' + annotation_xml(object_xml("&b;"))
READS_A_FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + annotation_xml("<note>&x;</note>")

BAD_XML = {
    "malformed": ("<annotation><object>", ["not well-formed"]),
    "nothing": (" ", ["not well-formed"]),
    "binary": ("\x00\x01", ["not well-formed"]),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?><annotation/>', ["not well-formed"]),
    "undefined entity": ("<annotation>&gnu;</annotation>", ["not well-formed", "undefined entity"]),
    "billion laughs": (LAUGHS, ["refused", "unsafe"]),
    "external entity": (READS_A_FILE, ["refused", "unsafe"]),
    "another format": ("<html/>", ["not a VOC annotation", "'html'"]),
    "another size": (annotation_xml(object_xml(), size=(50, 40)), ["50x40", "100x80", ".jpg"]),
    "turned": (annotation_xml(object_xml(), size=(HEIGHT, WIDTH)), ["80x100", "100x80", "EXIF"]),
}


def check_left_out(root: Path, file: str, words: list[str]) -> None:
    """`bad` is reported, or skipped with the image `good` staying."""
    message = error_of(root)
    for word in [*words, file, "--skip-bad"]:
        assert word in message
    dataset = VOCDataset(root, skip_bad=True)
    assert dataset.image_ids == ["good"]
    assert len(dataset) == len(dataset.aspect_ratios()) == 1
    assert (len(dataset.problems), dataset.skipped_images) == (1, 1)
    assert dataset.problems[0].file.endswith(file)


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_annotation_files(tmp_path: Path, case: str) -> None:
    xml, words = BAD_XML[case]
    add(tmp_path, "good")
    add(tmp_path, "bad", xml=xml)
    check_left_out(tmp_path, "bad.xml", words)


def test_a_missing_annotation_file(tmp_path: Path) -> None:
    add(tmp_path, "good")
    add(tmp_path, "bad")
    (tmp_path / "Annotations" / "bad.xml").unlink()
    check_left_out(tmp_path, "bad.xml", ["no such annotation"])


def test_an_annotation_that_is_a_folder(tmp_path: Path) -> None:
    add(tmp_path, "good")
    add(tmp_path, "bad")
    (tmp_path / "Annotations" / "bad.xml").unlink()
    (tmp_path / "Annotations" / "bad.xml").mkdir()
    check_left_out(tmp_path, "bad.xml", ["cannot be read"])


def test_a_missing_image(tmp_path: Path) -> None:
    add(tmp_path, "good")
    add(tmp_path, "bad", xml=annotation_xml(object_xml(), filename="gone.jpg")).unlink()
    check_left_out(tmp_path, "bad.jpg", ["no such image", "gone.jpg"])


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -2, -1])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_images_are_noticed_at_once(tmp_path: Path, keep: float, suffix: str) -> None:
    add(tmp_path, "good")
    path = add(tmp_path, "bad", suffix=suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else int(keep)])
    if suffix == ".png" and keep < 0:
        assert len(VOCDataset(tmp_path)) == 2  # all pixels are there, and Pillow decodes them
        return
    check_left_out(tmp_path, f"bad{suffix}", ["cannot be read"])


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    add(tmp_path, "good")
    add(tmp_path, "bad").write_text("404 Not Found")
    check_left_out(tmp_path, "bad.jpg", ["not a JPEG"])


def test_pixels_found_broken_later_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = add(tmp_path, "a", suffix=".png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    dataset = VOCDataset(tmp_path)
    with pytest.raises(UserError, match=r"a\.png: cannot be decoded") as caught:
        dataset[0]
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match=r"a\.png: cannot be decoded \(no such file"):
        dataset[0]


def test_nothing_usable(tmp_path: Path) -> None:
    add(tmp_path, "a", xml="<broken")
    assert "none of its images can be used" in error_of(tmp_path, skip_bad=True)


# --- the real photos ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real VOC photos: RCNN_EDU_VOC, or a few of those in a tar beside the repository."""
    if named := os.environ.get("RCNN_EDU_VOC"):
        return Path(named)
    archive = Path(__file__).parents[2] / "shared" / "voc2007" / "voc2007-demo-1.tar"
    if not archive.exists():
        pytest.skip("no real photos: set RCNN_EDU_VOC to a VOC folder")
    root = tmp_path_factory.mktemp("voc")
    with tarfile.open(archive) as tar:
        for _ in range(120):
            if member := tar.next():
                tar.extract(member, root, filter="data")
    folder = root / "VOCdevkit" / "VOC2007"
    ids = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(ids))
    return root


def test_real_photos(real_voc: Path) -> None:
    """Against the XML read with regular expressions, for no parser is shared."""
    dataset = VOCDataset(real_voc)
    assert len(dataset) >= 50
    for index in np.linspace(0, len(dataset) - 1, 50).astype(int).tolist():
        image, target = dataset[index]
        text = (dataset.root / "Annotations" / f"{target['image_id']}.xml").read_text()
        text = re.sub("<part>.*?</part>", "", text, flags=re.DOTALL)  # heads, hands and feet have boxes of their own
        boxes, labels, difficult = [], [], []
        for one in re.findall(r"<object>(.*?)</object>", text, re.DOTALL):
            x1, y1, x2, y2 = (int(re.findall(rf"<{k}>(\d+)</{k}>", one)[0]) for k in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append([x1 - 1, y1 - 1, x2, y2])
            labels.append(VOC_CLASSES.index(re.findall(r"<name>(\w+)</name>", one)[0]) + 1)
            difficult.append("<difficult>1</difficult>" in one)
        assert target["boxes"].tolist() == boxes
        assert target["labels"].tolist() == labels
        assert target["difficult"].tolist() == difficult
        size = [int(re.findall(rf"<{side}>(\d+)</{side}>", text)[0]) for side in ("height", "width")]
        assert list(image.shape) == [3, *size]
