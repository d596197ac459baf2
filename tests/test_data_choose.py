"""Which folders and lists stand behind a name of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from rcnn_edu.data.choose import choose_training, choose_validation
from rcnn_edu.errors import UserError
from rcnn_edu.training_config import DataConfig

OBJECT = "<object><name>cat</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """VOC 2007 and 2012 as the archives unpack, an image in each list that is named after both."""
    for year, splits in (("2007", ("trainval", "test")), ("2012", ("trainval", "val"))):
        root = tmp_path / "VOCdevkit" / f"VOC{year}"
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / part).mkdir(parents=True)
        for split in splits:
            name = f"{year}_{split}"
            Image.new("RGB", (30, 30)).save(root / "JPEGImages" / f"{name}.jpg")
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{OBJECT}</annotation>")
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}\n")
    return tmp_path


def test_voc_is_trained_on_trainval_and_evaluated_on_the_test_of_2007(folder: Path) -> None:
    for name, trained_on in (("voc2007", ["2007_trainval"]), ("voc0712", ["2007_trainval", "2012_trainval"])):
        config = DataConfig(data=name, data_folder=folder)
        assert choose_training(config).image_ids == trained_on
        assert choose_validation(config).image_ids == ["2007_test"]


def test_what_is_not_needed_need_not_be_there(folder: Path) -> None:
    (folder / "VOCdevkit" / "VOC2012").rename(folder / "away")
    config = DataConfig(data="voc0712", data_folder=folder)
    assert choose_validation(config).image_ids == ["2007_test"]
    with pytest.raises(UserError, match=r"VOC2012: voc0712 is not there; add --download"):
        choose_training(config)


def test_each_number_of_scenes_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """So that a run goes on undisturbed while another program wants other scenes."""
    few = DataConfig(data="shapes", shapes_train=2, shapes_val=1, data_folder=tmp_path)
    more = DataConfig(data="shapes", shapes_train=3, shapes_val=1, data_folder=tmp_path)
    first = choose_training(few)
    assert len(choose_training(more)) == 3
    assert len(first[1][1]["boxes"]) > 0
    assert len(first) == 2


def test_no_class_names_at_all_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="--classes has no name behind it"):
        choose_training(DataConfig(data="voc2007", data_folder=folder, classes=()))
