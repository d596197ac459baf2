"""Recipes: named settings of the one tree of numbers, from the article's to the best that we know.

Where each number comes from, and what it was seen to be worth, is in docs/recipes.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

from rcnn_edu.config import (
    AnchorConfig,
    AnchorTargetConfig,
    Config,
    CropPoolingConfig,
    DetectionConfig,
    PreprocessingConfig,
    ProposalConfig,
    ProposalTargetConfig,
)
from rcnn_edu.errors import UserError
from rcnn_edu.training_config import DataConfig, TrainConfig


def article(data: str = "voc2007") -> TrainConfig:
    """The article's numbers: ResNet-50 on PASCAL VOC, one image a step, 600 × 1000 pixels."""
    # The defaults of both dataclasses are the article's, but for one: its code trains the classifier on proposals alone
    # (TRAIN.USE_GT is off). Its pixel means belong to Caffe's ResNet; ours starts from torchvision's weights and so
    # takes torchvision's (--preprocessing.preset caffe is for weights converted from Caffe).
    model = Config(proposal_target=ProposalTargetConfig(append_gt=False))
    return TrainConfig(data=DataConfig(data=data), model=model)


def best(data: str = "voc2007") -> TrainConfig:
    """What the field trains this network on VOC with: 16 images a step, shorter sides from 480 to 800 pixels."""
    model = Config(
        preprocessing=PreprocessingConfig(target_size=800, max_size=1333),
        anchors=AnchorConfig(scales=(2.0, 4.0, 8.0, 16.0, 32.0)),
        test_proposals=ProposalConfig(6000, 1000),
        anchor_target=AnchorTargetConfig(allowed_border=None),
        proposal_target=ProposalTargetConfig(batch_size=512, bg_threshold_lo=0.0),
        detection=DetectionConfig(nms_threshold=0.5),
        classifier_sigma=3.0,
    )
    # 18,000 steps for 16,551 images, half as many for 5,011: 17 and 29 passes.
    steps, milestones = (18_000, (12_000, 16_000)) if data == "voc0712" else (9_000, (6_000, 8_000))
    return TrainConfig(
        data=DataConfig(data=data),
        model=model,
        output=Path("runs/best"),
        amp="auto",
        workers=8,
        steps=steps,
        batch_size=16,
        target_sizes=tuple(range(480, 801, 32)),
        learning_rate=0.02,
        milestones=milestones,
        warmup_steps=100,
        clip_norm=10.0,
        ema=0.999,
    )


def shapes(data: str = "shapes") -> TrainConfig:
    """The demo: `tiny` learns five shapes from nothing in minutes on a CPU."""
    model = Config(
        backbone="tiny",
        pretrained=False,
        rpn_channels=96,
        preprocessing=PreprocessingConfig(target_size=240, max_size=320),
        anchors=AnchorConfig(scales=(2.0, 4.0, 7.0)),
        proposals=ProposalConfig(600, 200),
        test_proposals=ProposalConfig(400, 100),
        anchor_target=AnchorTargetConfig(batch_size=128),
        proposal_target=ProposalTargetConfig(batch_size=32, fg_fraction=0.5, bg_threshold_lo=0.0),
    )
    return TrainConfig(
        data=DataConfig(data=data),
        model=model,
        output=Path("runs/shapes"),
        amp="auto",
        steps=1250,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1.5e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup_steps=60,
        clip_norm=5.0,
        log_every=10,
        checkpoint_every=100,
    )


def mobile(data: str = "voc2007") -> TrainConfig:
    """MobileNetV2 on small photos: a detector that a CPU trains in an hour and a half and runs in a blink."""
    model = Config(
        backbone="mobilenet_v2",
        preprocessing=PreprocessingConfig(target_size=352, max_size=588),
        anchors=AnchorConfig(scales=(2.0, 4.0, 8.0, 16.0)),
        proposals=ProposalConfig(2000, 500),
        test_proposals=ProposalConfig(1000, 200),
        anchor_target=AnchorTargetConfig(allowed_border=None),
        proposal_target=ProposalTargetConfig(batch_size=64, bg_threshold_lo=0.0),
        crop_pooling=CropPoolingConfig(mode="align"),
        classifier_sigma=3.0,
    )
    return TrainConfig(
        data=DataConfig(data=data),
        model=model,
        output=Path("runs/mobile"),
        amp="auto",
        steps=6000,
        batch_size=4,
        target_sizes=(288, 320, 352, 384, 416),
        learning_rate=2e-2,
        weight_decay=1e-4,
        schedule="cosine",
        warmup_steps=200,
        clip_norm=1.0,  # large steps kill the last layer's ReLU6: docs/recipes.md
        checkpoint_every=250,
    )


RECIPES: dict[str, Callable[..., TrainConfig]] = {"article": article, "best": best, "shapes": shapes, "mobile": mobile}


def with_classes(config: TrainConfig, count: int) -> TrainConfig:
    """`config` for `count` classes without background, as found in the dataset.

    Raises `UserError` if another number was asked for.
    """
    asked = config.model.num_classes
    if asked not in (Config.num_classes, count + 1):
        raise UserError(
            f"--num-classes {asked}, but the dataset has {count} classes and background, {count + 1} in all; "
            f"leave it out, or choose the classes with --classes"
        )
    return replace(config, model=replace(config.model, num_classes=count + 1))


def scaled(config: TrainConfig, batch_size: int) -> TrainConfig:
    """`config` for another number of images a step, seeing as many images in all.

    With k times the images a step, SGD's learning rate is k times as large (Goyal et al., arXiv 1706.02677 §2.1) and
    AdamW's √k times (Malladi et al., arXiv 2205.10330); steps and milestones are divided by k; the warm-up lasts as
    many images, but is never shorter in steps.
    """
    factor = batch_size / config.batch_size
    return replace(
        config,
        batch_size=batch_size,
        learning_rate=config.learning_rate * (factor if config.optimizer == "sgd" else sqrt(factor)),
        steps=max(1, round(config.steps / factor)),
        milestones=tuple(round(milestone / factor) for milestone in config.milestones),
        warmup_steps=max(config.warmup_steps, round(config.warmup_steps / factor)),
    )
