"""Recipes and the command line that they are the defaults of."""

from __future__ import annotations

import itertools
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from rcnn_edu.command_line import parse_training
from rcnn_edu.continuation import check_same, settings
from rcnn_edu.errors import UserError
from rcnn_edu.recipes import RECIPES, scaled
from rcnn_edu.training_config import DataConfig, TrainConfig


def test_the_article_has_the_articles_numbers() -> None:
    config = RECIPES["article"]()
    model = config.model
    assert (model.preprocessing.target_size, model.preprocessing.max_size) == (600, 1000)
    assert (config.batch_size, config.learning_rate, config.momentum, config.weight_decay) == (1, 1e-3, 0.9, 1e-4)
    assert (config.steps, config.milestones, config.flip) == (70_000, (50_000,), True)
    assert (model.crop_pooling.output_size, model.crop_pooling.mode) == (7, "crop")
    rois, anchors = model.proposal_target, model.anchor_target
    assert (rois.batch_size, rois.fg_fraction, rois.fg_threshold) == (128, 0.25, 0.5)
    assert (rois.bg_threshold_lo, rois.bg_threshold_hi, rois.append_gt) == (0.1, 0.5, False)
    assert (anchors.batch_size, anchors.fg_fraction) == (256, 0.5)
    assert (anchors.positive_overlap, anchors.negative_overlap) == (0.7, 0.3)


@pytest.mark.parametrize(
    ("data", "steps", "milestones"), [("voc2007", 9_000, (6_000, 8_000)), ("voc0712", 18_000, (12_000, 16_000))]
)
def test_the_best_one_trains_twice_as_long_on_both_years(data: str, steps: int, milestones: tuple[int, ...]) -> None:
    config = parse_training(["--recipe", "best", "--data", data])
    assert (config.data.data, config.steps, config.milestones) == (data, steps, milestones)
    assert (config.target_sizes[0], config.target_sizes[-1], config.batch_size) == (480, 800, 16)


def test_without_a_recipe_the_data_decides() -> None:
    assert parse_training(["--data", "shapes"]).model.backbone == "tiny"
    assert parse_training(["--data=voc0712"]).steps == 70_000
    assert parse_training(["--data", "some/folder"]).data.data == "some/folder"


def test_another_batch_sees_as_many_images_with_the_learning_rate_in_proportion() -> None:
    config = parse_training(["--recipe", "best", "--scale-to-batch", "64"])
    assert (config.batch_size, config.steps, config.milestones) == (64, 2250, (1500, 2000))
    assert config.learning_rate == pytest.approx(0.08)
    assert config.warmup_steps == 100
    small = scaled(RECIPES["best"](), 2)
    assert (small.steps, small.warmup_steps) == (72_000, 800)
    assert small.learning_rate == pytest.approx(0.0025)
    assert scaled(RECIPES["shapes"](), 16).learning_rate == pytest.approx(3e-3)  # AdamW: the square root of 4
    assert parse_training(["--recipe", "best", "--scale-to-batch=64", "--steps", "7"]).steps == 7


@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_a_batch_to_scale_to_must_be_a_number_of_images(value: str) -> None:
    with pytest.raises(UserError, match=f"--scale-to-batch {value}"):
        parse_training(["--scale-to-batch", value])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "ema is 1.0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"target_sizes": (480, 1200)}, "target_sizes has 1200; it must be in 1..1000"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TrainConfig(), **changes)


def test_help_explains_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_training(["--recipe", "best", "--help"])
    assert stopped.value.code == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in (
        field.name for field in (*fields(TrainConfig), *fields(DataConfig)) if field.name not in ("data", "model")
    ):
        assert f"--{name.replace('_', '-')}" in printed, name
    for words in ("Passes that each process divides", "Decay of a running average", "--scale-to-batch N", "0.02"):
        assert words in printed


def test_a_continuation_may_find_its_data_elsewhere_but_not_other_data() -> None:
    config = RECIPES["mobile"]("first/photos")
    there = settings(config)
    assert there["data.data"] == "photos"
    check_same(there, RECIPES["mobile"]("moved/to/photos"), Path("c.pt"))
    check_same({**there, "data.data": "/home/someone/photos"}, config, Path("c.pt"))  # as older checkpoints have it
    check_same(there, replace(config, accumulate=2, device="cuda", workers=0), Path("c.pt"))
    with pytest.raises(UserError, match=r"c\.pt: was trained with --data photos \(now others\)"):
        check_same(there, RECIPES["mobile"]("first/others"), Path("c.pt"))
    with pytest.raises(UserError, match=r"ema None \(now 0\.9\)"):
        check_same(there, replace(config, ema=0.9), Path("c.pt"))


def test_every_recipe_keeps_its_numbers_in_the_one_tree() -> None:
    for name, recipe in RECIPES.items():
        assert asdict(parse_training(["--recipe", name])) == asdict(recipe())
        assert recipe("elsewhere").data.data == "elsewhere"


def test_the_options_in_the_documentation_are_there() -> None:
    """And every ingredient of the ablation changes something."""
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    ladder, looks = text.split("## Ablation")[1].split("## Beside")[0].split("**First looks**")

    def commands(table: str) -> list[list[str]]:
        cells = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")]
        return [found[1].split() for found in (re.search(r"`(--[^`]+)`", cell) for cell in cells) if found]

    mobile = ["--recipe", "mobile"]
    article, *rungs = commands(ladder)
    steps = [parse_training([*mobile, *command]) for command in (article, *rungs)]
    assert len(steps) == 6
    assert all(one != next_one for one, next_one in itertools.pairwise(steps))
    assert replace(steps[-1], steps=RECIPES["mobile"]().steps) == RECIPES["mobile"]()  # the ladder ends at the recipe
    settings = [command for command in commands(looks) if command[0] != "--recipe"]  # that is the table's heading
    assert len(settings) >= 9
    for command in settings:
        changed = parse_training([*mobile, *article, *command])
        assert changed != parse_training([*mobile, *article]), command
