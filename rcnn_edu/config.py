"""Every number of the model, one small frozen dataclass a step, the article's name beside each value.

Article: Ankur Mohan, *Object Detection and Classification using R-CNNs*. The upper-case names in the comments
are the article's. Each field's docstring is what `python -m rcnn_edu.train --help` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal, get_args, get_type_hints

Pixels = Literal["torchvision", "caffe"]

_PIXEL_STATISTICS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class PreprocessingConfig:
    """Step 01. Article "Image Pre-Processing"."""

    target_size: int = 600
    """TRAIN.SCALES: length of the shorter side after resizing, in pixels."""
    max_size: int = 1000
    """TRAIN.MAX_SIZE: the longer side never passes this, in pixels."""
    preset: Pixels = "torchvision"
    """What the backbone was pretrained on: RGB in 0..1 (torchvision), or BGR in 0..255 (caffe, the article)."""
    mean: tuple[float, float, float] | None = None
    """PIXEL_MEANS: per-channel mean to subtract, in the preset's channel order and units (none: the preset's)."""
    std: tuple[float, float, float] | None = None
    """Per-channel standard deviation to divide by (none: the preset's; the article's is 1)."""

    def __post_init__(self) -> None:
        _require(self.preset in _PIXEL_STATISTICS, self, "preset", "torchvision or caffe")
        _require(0 < self.target_size <= self.max_size, self, "target_size", "in 1..max_size")
        _require(len(self.pixel_mean) == 3, self, "mean", "three numbers, one for each channel")
        _require(len(self.pixel_std) == 3 and min(self.pixel_std) > 0, self, "std", "three positive numbers")

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """The mean in force, in the preset's channel order and units."""
        return _PIXEL_STATISTICS[self.preset][0] if self.mean is None else self.mean

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """The standard deviation in force, in the preset's channel order and units."""
        return _PIXEL_STATISTICS[self.preset][1] if self.std is None else self.std


@dataclass(frozen=True)
class AnchorConfig:
    """Step 02. Article "Anchor Generation Layer"."""

    base_size: int = 16
    """Side of the base box that ratios and scales act on, in pixels."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """ANCHOR_RATIOS: height over width."""
    scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    """ANCHOR_SCALES: multiples of the base box: 128, 256 and 512 pixels."""
    stride: int = 16
    """FEAT_STRIDE: pixels of the image per cell of the feature map."""

    def __post_init__(self) -> None:
        _require(self.base_size > 0, self, "base_size", "positive")
        for name, values in (("ratios", self.ratios), ("scales", self.scales)):
            fit = len(values) > 0 and all(isfinite(value) and value > 0 for value in values)
            _require(fit, self, name, "a list of positive numbers")
        _require(self.stride > 0, self, "stride", "positive")

    @property
    def per_position(self) -> int:
        """Anchors at one position of the grid: nine in the article."""
        return len(self.ratios) * len(self.scales)


@dataclass(frozen=True)
class ProposalConfig:
    """Step 04. Article "Proposal Layer". The defaults are those of training."""

    pre_nms_top_n: int = 12000
    """RPN_PRE_NMS_TOP_N: best-scored anchors that are decoded (6000 in inference)."""
    post_nms_top_n: int = 2000
    """RPN_POST_NMS_TOP_N: proposals kept after non-maximum suppression (300 in inference)."""
    nms_threshold: float = 0.7
    """RPN_NMS_THRESH: a box that overlaps a better one by more than this IoU is suppressed."""
    min_size: float = 0.0
    """RPN_MIN_SIZE: proposals with a side below this many pixels of the resized image are dropped."""

    def __post_init__(self) -> None:
        _require(self.pre_nms_top_n > 0, self, "pre_nms_top_n", "positive")
        _require(self.post_nms_top_n > 0, self, "post_nms_top_n", "positive")
        _require_fraction(self, "nms_threshold")
        _require(self.min_size >= 0, self, "min_size", "zero or more")


@dataclass(frozen=True)
class AnchorTargetConfig:
    """Step 05. Article "Anchor Target Layer"."""

    positive_overlap: float = 0.7
    """RPN_POSITIVE_OVERLAP: anchors with at least this IoU with some object are foreground (type B)."""
    negative_overlap: float = 0.3
    """RPN_NEGATIVE_OVERLAP: anchors whose best IoU is below this are background."""
    batch_size: int = 256
    """RPN_BATCHSIZE: anchors of one image that enter the loss."""
    fg_fraction: float = 0.5
    """RPN_FG_FRACTION: at most this share of them is foreground."""
    allowed_border: float | None = 0.0
    """Anchors may leave the image by this many pixels and still be labelled (none: by any number)."""

    def __post_init__(self) -> None:
        _require_fraction(self, "positive_overlap", "negative_overlap", "fg_fraction")
        _require(self.negative_overlap <= self.positive_overlap, self, "negative_overlap", "at most positive_overlap")
        _require(self.batch_size > 0, self, "batch_size", "positive")
        _require(self.allowed_border is None or self.allowed_border >= 0, self, "allowed_border", "zero or more")


@dataclass(frozen=True)
class ProposalTargetConfig:
    """Step 07. Article "Proposal Target Layer"."""

    batch_size: int = 128
    """BATCH_SIZE: regions of interest of one image that the classifier learns from."""
    fg_fraction: float = 0.25
    """FG_FRACTION: at most this share of them is foreground."""
    fg_threshold: float = 0.5
    """FG_THRESH: proposals with at least this IoU with an object are foreground."""
    bg_threshold_hi: float = 0.5
    """BG_THRESH_HI: background has a best IoU below this."""
    bg_threshold_lo: float = 0.1
    """BG_THRESH_LO: background has a best IoU of at least this: hard negatives."""
    target_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    """BBOX_NORMALIZE_STDS: the coefficients are divided by these, so that each varies by about one."""
    append_gt: bool = True
    """Add the objects themselves to the candidates (the article's code leaves this off)."""

    def __post_init__(self) -> None:
        _require(self.batch_size > 0, self, "batch_size", "positive")
        _require_fraction(self, "fg_fraction", "fg_threshold", "bg_threshold_hi", "bg_threshold_lo")
        _require(self.bg_threshold_lo <= self.bg_threshold_hi, self, "bg_threshold_lo", "at most bg_threshold_hi")
        _require(self.bg_threshold_hi <= self.fg_threshold, self, "bg_threshold_hi", "at most fg_threshold")
        _require(len(self.target_std) == 4 and min(self.target_std) > 0, self, "target_std", "four positive numbers")


@dataclass(frozen=True)
class CropPoolingConfig:
    """Step 08. Article "Crop Pooling"."""

    output_size: int = 7
    """POOLING_SIZE: cells along each side of a crop."""
    mode: Literal["crop", "align"] = "crop"
    """The article's affine crop, or torchvision's roi_align."""
    differentiable_rois: bool = False
    """Let gradients reach the regions' coordinates (the article says so; its code detaches them)."""

    def __post_init__(self) -> None:
        _require(self.output_size > 0, self, "output_size", "positive")
        _require(self.mode in ("crop", "align"), self, "mode", "crop or align")
        differentiable = self.mode == "crop" or not self.differentiable_rois
        _require(differentiable, self, "mode", "crop for differentiable_rois: roi_align has no gradient for its RoIs")


@dataclass(frozen=True)
class DetectionConfig:
    """Steps 09 and 10 in inference: from class scores to final boxes."""

    score_threshold: float = 0.05
    """`thresh` of the code's `test_net`: boxes whose class probability is not above it are left out."""
    nms_threshold: float = 0.3
    """TEST.NMS: a box that overlaps a better one of its class by more than this IoU is suppressed."""
    max_detections: int = 100
    """`max_per_image` of `test_net`: the best detections that are kept in an image, over all classes."""

    def __post_init__(self) -> None:
        _require_fraction(self, "score_threshold", "nms_threshold")
        _require(self.max_detections > 0, self, "max_detections", "positive")


Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "vgg16", "mobilenet_v2", "tiny"]


@dataclass(frozen=True)
class Config:
    """The whole model: a backbone, the number of classes, and the ten steps in the article's order."""

    backbone: Backbone = "resnet50"
    """Pretrained network that is cut into head and tail; `tiny` trains from nothing."""
    num_classes: int = 21
    """Classes with background counted: 20 + 1 for PASCAL VOC. In training it follows from the dataset."""
    pretrained: bool = True
    """Start from ImageNet weights, downloaded by torchvision once (`tiny` has none)."""
    backbone_weights: str | None = None
    """Start from this local state dict with torchvision's names instead of a download."""
    frozen_stages: int | None = None
    """Leading stages of the head that do not learn; none: 2 (conv1 and layer1 of a ResNet), and 0 for `tiny`."""
    rpn_channels: int | None = None
    """Channels of the RPN's 3x3 convolution; none: as many as the head's, within 256..512."""
    rpn_sigma: float = 3.0
    """Sigma of the RPN's smooth L1 loss."""
    classifier_sigma: float = 1.0
    """Sigma of the classifier's smooth L1 loss."""
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    """Proposal layer in training."""
    test_proposals: ProposalConfig = field(default_factory=lambda: ProposalConfig(6000, 300))
    """Proposal layer in inference."""
    anchor_target: AnchorTargetConfig = field(default_factory=AnchorTargetConfig)
    proposal_target: ProposalTargetConfig = field(default_factory=ProposalTargetConfig)
    crop_pooling: CropPoolingConfig = field(default_factory=CropPoolingConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    def __post_init__(self) -> None:
        _require(self.backbone in get_args(Backbone), self, "backbone", f"one of {', '.join(get_args(Backbone))}")
        _require(self.num_classes >= 2, self, "num_classes", "2 or more: background and one class at least")
        _require(self.frozen_stages is None or self.frozen_stages >= 0, self, "frozen_stages", "zero or more")
        _require(self.rpn_channels is None or self.rpn_channels > 0, self, "rpn_channels", "positive")
        _require(self.rpn_sigma > 0, self, "rpn_sigma", "positive")
        _require(self.classifier_sigma > 0, self, "classifier_sigma", "positive")


def config_from_dict(values: dict[str, Any], cls: type = Config) -> Any:
    """The dataclass `cls` from `dataclasses.asdict` of it, as read back from a checkpoint or JSON.

    Raises `ValueError` naming a field that this version does not know, or a value out of its range.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(hints[name], type):
            made[name] = config_from_dict(value, hints[name])
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return cls(**made)


def _require(holds: bool, config: object, name: str, must_be: str) -> None:
    if not holds:
        raise ValueError(f"{type(config).__name__}.{name} is {getattr(config, name)}; it must be {must_be}")


def _require_fraction(config: object, *names: str) -> None:
    for name in names:
        _require(0.0 <= getattr(config, name) <= 1.0, config, name, "in 0..1")
