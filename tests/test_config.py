"""The configuration: the article's numbers, errors that name field and value, and the way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from rcnn_edu.config import (
    AnchorConfig,
    AnchorTargetConfig,
    Config,
    CropPoolingConfig,
    DetectionConfig,
    PreprocessingConfig,
    ProposalConfig,
    ProposalTargetConfig,
    config_from_dict,
)


def test_the_articles_numbers() -> None:
    config = Config()
    assert (config.backbone, config.num_classes, config.pretrained) == ("resnet50", 21, True)
    assert (config.preprocessing.target_size, config.preprocessing.max_size) == (600, 1000)
    assert (config.anchors.base_size, config.anchors.stride, config.anchors.per_position) == (16, 16, 9)
    assert (config.anchors.ratios, config.anchors.scales) == ((0.5, 1, 2), (8, 16, 32))
    assert config.proposals == ProposalConfig(12000, 2000, 0.7, 0)
    assert config.test_proposals == ProposalConfig(6000, 300, 0.7, 0)
    assert config.anchor_target == AnchorTargetConfig(0.7, 0.3, 256, 0.5)
    assert config.proposal_target == ProposalTargetConfig(128, 0.25, 0.5, 0.5, 0.1, (0.1, 0.1, 0.2, 0.2), True)
    assert config.crop_pooling == CropPoolingConfig(7, "crop", False)
    assert config.detection == DetectionConfig(0.05, 0.3, 100)
    assert (config.rpn_sigma, config.classifier_sigma) == (3, 1)


def test_pixel_statistics_of_both_presets() -> None:
    torchvision, caffe = PreprocessingConfig(), PreprocessingConfig(preset="caffe")
    assert torchvision.pixel_mean == (0.485, 0.456, 0.406)
    assert torchvision.pixel_std == (0.229, 0.224, 0.225)
    assert caffe.pixel_mean == (102.9801, 115.9465, 122.7717)
    assert caffe.pixel_std == (1, 1, 1)


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (PreprocessingConfig, "preset", "imagenet"),
        (PreprocessingConfig, "target_size", 0),
        (PreprocessingConfig, "target_size", 1001),
        (PreprocessingConfig, "std", (1.0, 0.0, 1.0)),
        (AnchorConfig, "base_size", 0),
        (AnchorConfig, "ratios", ()),
        (AnchorConfig, "ratios", (1.0, -1.0)),
        (AnchorConfig, "scales", (0.0,)),
        (AnchorConfig, "scales", ()),
        (PreprocessingConfig, "mean", (1, 2)),
        (PreprocessingConfig, "std", (1, 2)),
        (AnchorConfig, "ratios", (1.0, math.inf)),
        (AnchorConfig, "scales", (math.nan,)),
        (AnchorConfig, "stride", 0),
        (ProposalConfig, "pre_nms_top_n", 0),
        (ProposalConfig, "post_nms_top_n", -1),
        (ProposalConfig, "nms_threshold", 1.1),
        (ProposalConfig, "nms_threshold", math.nan),
        (ProposalConfig, "min_size", -1.0),
        (AnchorTargetConfig, "positive_overlap", 70),
        (AnchorTargetConfig, "negative_overlap", -0.1),
        (AnchorTargetConfig, "negative_overlap", 0.8),
        (AnchorTargetConfig, "batch_size", 0),
        (AnchorTargetConfig, "fg_fraction", 1.5),
        (ProposalTargetConfig, "batch_size", 0),
        (ProposalTargetConfig, "fg_fraction", -0.5),
        (ProposalTargetConfig, "fg_threshold", 2),
        (ProposalTargetConfig, "bg_threshold_hi", 0.6),
        (ProposalTargetConfig, "bg_threshold_lo", 0.51),
        (ProposalTargetConfig, "target_std", (0.1, 0.1, 0.0, 0.2)),
        (ProposalTargetConfig, "target_std", (0.1, 0.1)),
        (CropPoolingConfig, "output_size", 0),
        (CropPoolingConfig, "mode", "pool"),
        (DetectionConfig, "score_threshold", 5),
        (DetectionConfig, "nms_threshold", -1),
        (DetectionConfig, "max_detections", 0),
        (Config, "backbone", "resnet152"),
        (Config, "num_classes", 1),
        (Config, "rpn_channels", 0),
        (Config, "frozen_stages", -1),
        (Config, "rpn_sigma", 0.0),
        (Config, "classifier_sigma", -1.0),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field(cls: Any, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{field} is .*; it must be ") as error:
        cls(**{field: value})
    assert str(value) in str(error.value)


def test_regions_of_align_cannot_be_differentiable() -> None:
    with pytest.raises(ValueError, match=r"mode is align; it must be crop for differentiable_rois"):
        CropPoolingConfig(mode="align", differentiable_rois=True)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (AnchorTargetConfig, {"positive_overlap": 0.5, "negative_overlap": 0.5}),
        (ProposalTargetConfig, {"bg_threshold_lo": 0.0, "fg_fraction": 1.0}),
        (DetectionConfig, {"score_threshold": 0.0, "nms_threshold": 1.0}),
        (PreprocessingConfig, {"target_size": 1000}),
        (Config, {"frozen_stages": 0, "num_classes": 2}),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(cls: Any, values: dict[str, Any]) -> None:
    made = cls(**values)
    assert {field: getattr(made, field) for field in values} == values


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().num_classes = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            backbone="tiny",
            num_classes=6,
            frozen_stages=0,
            preprocessing=PreprocessingConfig(240, 320, "caffe", mean=(1.0, 2.0, 3.0)),
            anchors=AnchorConfig(scales=(2.0, 4.0)),
            test_proposals=ProposalConfig(10, 5, 0.5, 3.0),
            proposal_target=ProposalTargetConfig(append_gt=False),
            crop_pooling=CropPoolingConfig(14, "align"),
        ),
    ],
)
def test_a_config_goes_to_json_and_back(config: Config) -> None:
    values = dataclasses.asdict(config)
    assert config_from_dict(values) == config
    back = config_from_dict(json.loads(json.dumps(values)))
    assert back == config
    assert isinstance(back.anchors, AnchorConfig)
    assert isinstance(back.test_proposals, ProposalConfig)
    assert isinstance(back.anchors.scales, tuple)


def test_fields_that_are_left_out_keep_their_defaults() -> None:
    config = config_from_dict({"num_classes": 4, "anchors": {"stride": 8}})
    assert config == Config(num_classes=4, anchors=AnchorConfig(stride=8))


def test_one_step_alone_can_be_read_back() -> None:
    step = DetectionConfig(0.5, 0.5, 10)
    assert config_from_dict(dataclasses.asdict(step), DetectionConfig) == step


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.1}, "Config has no field learning_rate"),
        ({"anchors": {"strides": 16, "sizes": 3}}, "AnchorConfig has no field sizes, strides"),
        ({"detection": {"max_detections": 0}}, r"DetectionConfig\.max_detections is 0"),
    ],
)
def test_a_field_that_is_unknown_or_out_of_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_dict(values)
