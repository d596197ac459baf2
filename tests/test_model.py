"""The whole model: torchvision's interface, batches, original pixels, errors, randomness, gradients, and the trace."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from conftest import generator, random_boxes, tiny_config, tiny_model
from torch import Tensor, nn

from rcnn_edu.anchors import grid_anchors
from rcnn_edu.backbone import feature_size
from rcnn_edu.config import AnchorConfig, Config, CropPoolingConfig, PreprocessingConfig
from rcnn_edu.model import FasterRCNN
from rcnn_edu.targets import check_targets

LOSSES = {"rpn_classification", "rpn_regression", "classification", "regression"}
Target = dict[str, Tensor]
Detected = list[dict[str, Tensor]]


def images_of(*sizes: tuple[int, int]) -> list[Tensor]:
    """Random images of these (height, width)."""
    return [torch.rand(3, height, width) for height, width in sizes]


def target_of(objects: int, size: tuple[int, int] = (64, 96), classes: int = 3) -> Target:
    """Random objects inside an image of (height, width)."""
    return {"boxes": random_boxes(objects, size, smallest=12), "labels": torch.randint(1, classes + 1, (objects,))}


def train(model: FasterRCNN, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """The losses."""
    assert model.training
    losses = model(images, targets)
    assert isinstance(losses, dict)
    return losses


def total(losses: dict[str, Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(losses.values())).sum()


@torch.no_grad()
def detect(model: FasterRCNN, images: list[Tensor]) -> Detected:
    """The detections."""
    return cast(Detected, model.eval()(images))


def assert_same_detections(found: dict[str, Tensor], expected: dict[str, Tensor], scale: float = 1) -> None:
    """The same objects to 1e-4, `expected`'s boxes enlarged by `scale`."""
    assert len(expected["boxes"]) > 0
    assert found["labels"].tolist() == expected["labels"].tolist()
    torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found["boxes"], expected["boxes"] * scale, atol=1e-4 * scale, rtol=0)


# --- the interface -----------------------------------------------------------------------------------------------


def test_training_gives_the_four_losses() -> None:
    losses = train(tiny_model(), images_of((64, 96), (64, 96)), [target_of(2), target_of(1)])
    assert set(losses) == LOSSES
    assert all(loss.shape == () and loss.dtype == torch.float32 and loss > 0 for loss in losses.values())
    total(losses).backward()


def test_evaluation_gives_boxes_labels_and_scores_of_each_image() -> None:
    model = tiny_model()
    found = detect(model, images_of((64, 96), (80, 60)))
    assert len(found) == 2
    for one, (height, width) in zip(found, [(64, 96), (80, 60)], strict=True):
        assert set(one) == {"boxes", "labels", "scores"}
        count = len(one["boxes"])
        assert count > 0
        assert one["boxes"].shape == (count, 4)
        assert one["labels"].shape == one["scores"].shape == (count,)
        assert one["boxes"].dtype == one["scores"].dtype == torch.float32
        assert one["labels"].dtype == torch.int64
        assert ((one["labels"] >= 1) & (one["labels"] <= 3)).all()
        assert (one["scores"] > 0.05).all()
        assert (one["scores"][1:] <= one["scores"][:-1]).all()
        x1, y1, x2, y2 = one["boxes"].unbind(1)
        assert ((x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2)).all()
        assert ((x2 <= width + 1e-4) & (y2 <= height + 1e-4)).all()


def test_any_mix_of_sizes_trains_and_detects() -> None:
    model, sizes = tiny_model(), [(64, 96), (200, 100), (31, 47), (8, 400)]
    losses = train(model, images_of(*sizes), [target_of(2, size) for size in sizes[:3]] + [target_of(0)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert len(detect(model, images_of(*sizes))) == 4


def test_an_image_without_objects_pays_no_regression() -> None:
    model = tiny_model()
    losses = train(model, images_of((64, 96)), [target_of(0)])
    assert losses["rpn_regression"] == 0
    assert losses["regression"] == 0
    assert losses["rpn_classification"] > 0
    assert losses["classification"] > 0
    total(losses).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_images_with_and_without_objects_train_together() -> None:
    losses = train(tiny_model(), images_of((64, 96), (64, 96)), [target_of(0), target_of(3)])
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())


def test_a_batch_without_any_object_trains() -> None:
    losses = train(tiny_model(), images_of((64, 96), (70, 64)), [target_of(0), target_of(0)])
    assert losses["rpn_regression"] == losses["regression"] == 0
    assert torch.isfinite(losses["rpn_classification"] + losses["classification"])


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_of_any_integer_type_and_other_keys_are_taken(dtype: torch.dtype) -> None:
    images, target = images_of((64, 96)), target_of(3)
    expected = train(tiny_model(), images, [target])
    other = {**target, "labels": target["labels"].to(dtype), "image_id": torch.tensor(7), "area": torch.ones(3)}
    assert train(tiny_model(), images, [other]) == expected


def test_boxes_may_be_double_or_whole_numbers() -> None:
    images, boxes = images_of((64, 96)), torch.tensor([[4, 8, 40, 60], [50, 10, 90, 30]])
    labels = torch.tensor([1, 2])
    expected = train(tiny_model(), images, [{"boxes": boxes.float(), "labels": labels}])
    for same in (boxes, boxes.double()):
        assert train(tiny_model(), images, [{"boxes": same, "labels": labels}]) == expected


def test_uint8_and_float_images_agree() -> None:
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    found = detect(tiny_model(), [image, image.float() / 255])
    assert_same_detections(found[0], found[1])


def test_inputs_are_left_alone() -> None:
    images, targets = images_of((64, 96), (50, 50)), [target_of(2), target_of(1, (50, 50))]
    before = [x.clone() for x in images] + [t["boxes"].clone() for t in targets]
    model = tiny_model()
    train(model, images, targets)
    detect(model, images)
    for now, then in zip([*images, *(t["boxes"] for t in targets)], before, strict=True):
        assert torch.equal(now, then)


def test_classes_have_names() -> None:
    assert FasterRCNN(tiny_config(), classes=["dog", "cat", "bird"]).classes == ("dog", "cat", "bird")
    assert FasterRCNN(tiny_config()).classes == ("class 1", "class 2", "class 3")


def test_weights_carry_over_by_state_dict() -> None:
    trained, fresh = tiny_model(1), tiny_model(2)
    images = images_of((64, 96))
    expected = detect(trained, images)[0]
    before = detect(fresh, images)[0]["boxes"]
    assert before.shape != expected["boxes"].shape or not torch.allclose(before, expected["boxes"])
    fresh.load_state_dict(trained.state_dict())
    assert_same_detections(detect(fresh, images)[0], expected)


# --- batches and pixels ------------------------------------------------------------------------------------------


def test_detections_of_a_batch_are_those_of_one_image_at_a_time() -> None:
    model = tiny_model()
    images = images_of((64, 96), (128, 192), (64, 96), (32, 48))  # all are 64 × 96 when resized
    together = detect(model, images)
    for image, found in zip(images, together, strict=True):
        assert_same_detections(found, detect(model, [image])[0])


def test_losses_of_a_batch_are_the_mean_of_one_image_at_a_time() -> None:
    model, images = tiny_model(), images_of((64, 96), (64, 96), (128, 192))
    targets = [target_of(3), target_of(0), target_of(1, (128, 192))]
    model.generator = generator(5)
    together = train(model, images, targets)
    model.generator = generator(5)  # the samples are drawn image by image, so they are the same
    apart = [train(model, [image], [target]) for image, target in zip(images, targets, strict=True)]
    for name in LOSSES:
        mean = torch.stack([losses[name] for losses in apart]).mean()
        torch.testing.assert_close(together[name], mean, atol=1e-4, rtol=0)


def test_padding_holds_no_features_and_no_anchors() -> None:
    model = tiny_model()
    batch = model.prepare(images_of((64, 64), (64, 120)))
    assert batch.sizes == [(64, 64), (64, 120)]
    assert batch.pixels.shape == (2, 3, 64, 128)  # the next multiple of 32
    assert not batch.pixels[0, :, :, 64:].any()
    assert not batch.pixels[1, :, :, 120:].any()
    features, rpn_output = model.look(batch)
    assert features[0, :, :, :4].any()
    assert not features[0, :, :, 4:].any()
    assert features[1, :, :, 7].any()
    scores, coefficients, anchors = model.at_anchors(rpn_output, batch, 0)
    assert len(scores) == len(coefficients) == len(anchors) == 4 * 4 * 9


def test_boxes_are_in_the_original_images_pixels() -> None:
    model, image = tiny_model(), images_of((64, 96))[0]
    twice = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # resizes to the very same pixels
    assert_same_detections(detect(model, [twice])[0], detect(model, [image])[0], scale=2)


def test_targets_are_in_the_original_images_pixels() -> None:
    image, target = images_of((64, 96))[0], target_of(3)
    twice = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    expected = train(tiny_model(), [image], [target])
    found = train(tiny_model(), [twice], [{**target, "boxes": target["boxes"] * 2}])
    for name in LOSSES:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (500, 741), (300, 11)])
def test_the_whole_image_stays_the_whole_image_however_sizes_are_rounded(size: tuple[int, int]) -> None:
    batch = tiny_model().prepare(images_of(size))
    height, width = batch.sizes[0]
    whole = torch.tensor([[0.0, 0, size[1], size[0]]])
    resized = batch.to_resized(whole, 0)
    torch.testing.assert_close(resized, torch.tensor([[0.0, 0, width, height]]))
    torch.testing.assert_close(batch.to_original(resized, 0), whole)


# --- errors ------------------------------------------------------------------------------------------------------

GOOD = [[0.0, 0, 20, 20], [5, 5, 30, 30]]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([30.0, 10, 20, 40], r"image 1, object 2: box \(30, 10, 20, 40\) is inverted"),
        ([10.0, 40, 20, 30], r"image 1, object 2: box \(10, 40, 20, 30\) is inverted"),
        ([10.0, 10, 10, 40], r"image 1, object 2: box \(10, 10, 10, 40\) is empty"),
        ([10.0, 10, 40, 10], r"image 1, object 2: box \(10, 10, 40, 10\) is empty"),
        ([math.nan, 10, 40, 20], r"image 1, object 2: box \(nan, 10, 40, 20\) is not finite"),
        ([10.0, 10, math.inf, 20], r"image 1, object 2: box \(10, 10, inf, 20\) is not finite"),
    ],
)
def test_a_box_that_is_none_is_refused_with_image_object_and_value(box: list[float], message: str) -> None:
    bad = {"boxes": torch.tensor([*GOOD, box]), "labels": torch.tensor([1, 2, 3])}
    with pytest.raises(ValueError, match=message):
        train(tiny_model(), images_of((64, 96), (64, 96)), [target_of(2), bad])


@pytest.mark.parametrize("label", [0, -1, 4, 21])
def test_a_label_out_of_range_is_refused_with_image_object_and_value(label: int) -> None:
    bad = {"boxes": torch.tensor(GOOD), "labels": torch.tensor([1, label])}
    with pytest.raises(ValueError, match=rf"image 0, object 1: label {label} is outside 1…3"):
        train(tiny_model(), images_of((64, 96)), [bad])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"boxes": torch.tensor(GOOD)}, 'image 0: its target has no "labels"'),
        ({"labels": torch.tensor([1])}, 'image 0: its target has no "boxes"'),
        ({"boxes": torch.zeros(0), "labels": torch.zeros(0)}, r"image 0: boxes must be \(G, 4\); they are \(0,\)"),
        ({"boxes": torch.ones(2, 5), "labels": torch.ones(2)}, r"image 0: boxes must be \(G, 4\); they are \(2, 5\)"),
        ({"boxes": torch.tensor(GOOD), "labels": torch.tensor([1])}, "image 0: 2 boxes, but labels of shape"),
        ({"boxes": torch.tensor(GOOD), "labels": torch.tensor([1.0, 2.0])}, "labels must be integers"),
        ({"boxes": torch.tensor(GOOD), "labels": torch.tensor([True, True])}, "labels must be integers"),
    ],
)
def test_a_target_of_another_form_is_refused(target: Target, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tiny_model(), images_of((64, 96)), [target])


def test_images_can_be_called_by_name() -> None:
    bad = {"boxes": torch.tensor([[5.0, 5, 5, 5]]), "labels": torch.tensor([1])}
    with pytest.raises(ValueError, match=r"image 000123\.jpg, object 0"):
        check_targets([target_of(1), bad], 4, ["first.jpg", "000123.jpg"])


def test_training_needs_targets_and_as_many_as_images() -> None:
    model, images = tiny_model(), images_of((64, 96), (64, 96))
    with pytest.raises(ValueError, match="targets are needed in training mode"):
        model(images)
    with pytest.raises(ValueError, match="2 images, but 1 targets"):
        model(images, [target_of(1)])


@pytest.mark.parametrize("bad", [torch.rand(64, 96), torch.rand(1, 64, 96), torch.ones(3, 64, 96, dtype=torch.int64)])
@pytest.mark.parametrize("training", [True, False])
def test_an_image_of_another_form_is_refused_with_its_place(bad: Tensor, training: bool) -> None:
    model = tiny_model().train(training)
    with pytest.raises(ValueError, match="image 1: an image must"):
        model([*images_of((64, 96)), bad], [target_of(1), target_of(1)])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is empty"):
        tiny_model().eval()([])


def test_a_config_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 class names for num_classes 4"):
        FasterRCNN(tiny_config(), classes=["dog", "cat"])
    with pytest.raises(ValueError, match=r"anchors\.stride is 8"):
        FasterRCNN(tiny_config(anchors=AnchorConfig(stride=8)))


# --- randomness --------------------------------------------------------------------------------------------------


def test_the_generator_decides_the_losses_and_the_global_state_is_not_touched() -> None:
    model, images, targets = tiny_model(), images_of((64, 96)), [target_of(4)]
    before = torch.get_rng_state()

    def losses(seed: int) -> dict[str, Tensor]:
        model.generator = generator(seed)
        return train(model, images, targets)

    first = losses(1)
    assert losses(1) == first
    assert losses(2) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_state_decides() -> None:
    model, images, targets = tiny_model(), images_of((64, 96)), [target_of(4)]
    model.generator = None
    torch.manual_seed(3)
    first = train(model, images, targets)
    torch.manual_seed(3)
    assert train(model, images, targets) == first


def test_detection_draws_no_random_numbers() -> None:
    model, images = tiny_model(), images_of((64, 96))
    assert model.generator is not None
    before, own = torch.get_rng_state(), model.generator.get_state()
    first = detect(model, images)[0]
    assert torch.equal(detect(model, images)[0]["boxes"], first["boxes"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.generator.get_state(), own)


# --- precision and learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [0, 3])
def test_losses_and_gradients_are_finite_under_bfloat16_autocast(objects: int) -> None:
    model, images, targets = tiny_model(), images_of((64, 96), (80, 64)), [target_of(objects), target_of(0)]
    expected = train(tiny_model(), images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        losses = train(model, images, targets)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(float(expected[name].detach()), rel=0.5, abs=0.2)
    total(losses).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_detection_works_under_bfloat16_autocast() -> None:
    model, images = tiny_model(), images_of((64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        found = detect(model, images)[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert torch.isfinite(found["boxes"]).all()
    assert len(found["boxes"]) > 0


def test_a_few_steps_on_one_image_lower_its_losses() -> None:
    torch.manual_seed(0)
    model, images = FasterRCNN(tiny_config(), generator=generator()), images_of((64, 96))
    targets = [{"boxes": torch.tensor([[8.0, 8, 40, 56]]), "labels": torch.tensor([2])}]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(25):
        losses = train(model, images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        totals.append(total(losses).item())
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])


def test_an_rpn_that_diverged_proposes_and_detects_nothing() -> None:
    model = tiny_model()
    nn.init.constant_(model.rpn.rpn_bbox_pred_net.weight, math.nan)
    trace = model.eval().trace(images_of((64, 96))[0])
    assert int(trace.proposals.non_finite) == len(trace.anchors)
    assert [len(found["boxes"]) for found in detect(model, images_of((64, 96), (64, 64)))] == [0, 0]


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_a_pretrained_kind_of_backbone_trains_and_its_batch_norm_stays_frozen(backbone: Any) -> None:
    config = tiny_config(backbone=backbone, pretrained=False)
    model = FasterRCNN(config, generator=generator())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any(name.endswith("shift") for name in before)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    images = images_of((64, 96), (64, 96))
    losses = train(model, images, [target_of(2), target_of(0)])
    total(losses).backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    with torch.no_grad():
        pixels = model.prepare(images).pixels
        in_training, in_evaluation = model.train().head(pixels), model.eval().head(pixels)
    assert torch.equal(in_training, in_evaluation)


# --- gradients ---------------------------------------------------------------------------------------------------


def reached(loss: Tensor, model: FasterRCNN) -> set[str]:
    """The parts of the model whose weights have a gradient that is not 0."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    return {".".join(name.split(".")[:2]) if name.startswith(("rpn", "classifier")) else "head" for name, _ in named}


@pytest.mark.parametrize("differentiable", [False, True])
def test_the_classifiers_losses_reach_the_rpn_only_through_differentiable_rois(differentiable: bool) -> None:
    model = tiny_model(crop_pooling=CropPoolingConfig(differentiable_rois=differentiable))
    losses = train(model, images_of((64, 96)), [target_of(3)])
    always = {"head", "classifier.tail"} | ({"rpn.rpn_net", "rpn.rpn_bbox_pred_net"} if differentiable else set())
    assert reached(losses["classification"], model) == always | {"classifier.cls_score_net"}
    assert reached(losses["regression"], model) == always | {"classifier.bbox_pred_net"}
    assert reached(losses["rpn_classification"], model) == {"head", "rpn.rpn_net", "rpn.rpn_cls_score_net"}
    assert reached(losses["rpn_regression"], model) == {"head", "rpn.rpn_net", "rpn.rpn_bbox_pred_net"}


def test_aligned_crops_train_too() -> None:
    losses = train(tiny_model(crop_pooling=CropPoolingConfig(5, "align")), images_of((64, 96)), [target_of(3)])
    assert all(torch.isfinite(loss) for loss in losses.values())


# --- the trace ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_trace_has_every_intermediate_in_its_shape() -> None:
    model, image, target = tiny_model().eval(), images_of((50, 60))[0], target_of(2, (50, 60))
    trace = model.trace(image, target)
    height, width = trace.image_size
    assert (height, width) == (64, 77)  # 60 · 64 / 50 = 76.8
    assert trace.scale == 64 / 50
    assert trace.image is image
    assert trace.preprocessed.shape == (3, 64, 77)
    cells = feature_size(trace.image_size)
    assert trace.features.shape == (96, *cells) == (96, 4, 5)
    count = 4 * 5 * 9
    assert torch.equal(trace.anchors, grid_anchors(cells, 16, model.base_anchors))
    assert trace.anchors.shape == trace.coefficients.shape == (count, 4)
    assert trace.rpn_class_scores.shape == (count, 2)
    torch.testing.assert_close(trace.objectness, trace.rpn_class_scores.softmax(dim=1)[:, 1])
    regions = len(trace.rois)
    assert regions == 16
    assert trace.crops.shape == (regions, 96, 7, 7)
    assert trace.fc7.shape == (regions, 192)
    assert trace.class_scores.shape == trace.scores.shape == (regions, 4)
    assert trace.box_coefficients.shape == (regions, 16)
    torch.testing.assert_close(trace.scores.sum(dim=1), torch.ones(regions))
    torch.testing.assert_close(trace.fc7, model.classifier.fc7(trace.crops))
    assert trace.gt_boxes is not None
    torch.testing.assert_close(trace.gt_boxes, target["boxes"] * torch.tensor([77 / 60, 1.28, 77 / 60, 1.28]))
    assert trace.anchor_targets is not None
    assert trace.anchor_targets.labels.shape == (count,)
    assert trace.proposal_targets is not None
    assert torch.equal(trace.proposal_targets.rois, trace.rois)


@torch.no_grad()
def test_without_a_target_the_rois_are_inferences_proposals_and_nothing_is_said_of_training() -> None:
    trace = tiny_model().eval().trace(images_of((64, 96))[0])
    assert torch.equal(trace.rois, trace.proposals.boxes)
    assert 1 <= len(trace.rois) <= 20
    assert trace.gt_boxes is None
    assert trace.anchor_targets is None
    assert trace.proposal_targets is None
    assert trace.rpn_loss is None
    assert trace.classifier_loss is None


@pytest.mark.parametrize("with_target", [False, True])
@torch.no_grad()
def test_a_traces_detections_are_the_models(with_target: bool) -> None:
    model, image = tiny_model(), images_of((50, 60))[0]
    expected = detect(model, [image])[0]
    found = model.trace(image, target_of(2, (50, 60)) if with_target else None).detections
    assert_same_detections({"boxes": found.boxes, "labels": found.labels, "scores": found.scores}, expected)


@pytest.mark.parametrize("objects", [0, 3])
def test_a_traces_losses_are_the_models(objects: int) -> None:
    model, image, target = tiny_model(), images_of((50, 60))[0], target_of(objects, (50, 60))
    model.generator = generator(7)
    expected = train(model, [image], [target])
    model.generator = generator(7)
    trace = model.trace(image, target)
    assert model.training
    assert trace.rpn_loss is not None
    assert trace.classifier_loss is not None
    found = {
        "rpn_classification": trace.rpn_loss.classification,
        "rpn_regression": trace.rpn_loss.regression,
        "classification": trace.classifier_loss.classification,
        "regression": trace.classifier_loss.regression,
    }
    for name in LOSSES:
        torch.testing.assert_close(found[name], expected[name])


def test_a_trace_refuses_what_training_refuses() -> None:
    bad = {"boxes": torch.tensor([[5.0, 5, 5, 5]]), "labels": torch.tensor([1])}
    with pytest.raises(ValueError, match="object 0"):
        tiny_model().trace(images_of((64, 96))[0], bad)


# --- defaults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "cells"), [((600, 800), (38, 50)), ((16, 16), (1, 1)), ((17, 1), (2, 1))])
def test_one_cell_for_every_16_pixels_begun(size: tuple[int, int], cells: tuple[int, int]) -> None:
    assert feature_size(size) == cells


def test_the_articles_layers_have_the_articles_shapes() -> None:
    model = FasterRCNN(Config(backbone="resnet18", pretrained=False))
    assert model.rpn.rpn_cls_score_net.weight.shape[0] == 18
    assert model.rpn.rpn_bbox_pred_net.weight.shape[0] == 36
    assert model.classifier.cls_score_net.weight.shape == (21, 512)
    assert model.classifier.bbox_pred_net.weight.shape == (84, 512)
    assert model.base_anchors.shape == (9, 4)


def test_training_and_inference_see_the_same_pixels() -> None:
    config = replace(tiny_config(), preprocessing=PreprocessingConfig(64, 128, "caffe"))
    model, images = FasterRCNN(config), images_of((64, 96))
    assert torch.equal(model.train().prepare(images).pixels, model.eval().prepare(images).pixels)
    mean = torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    torch.testing.assert_close(model.prepare(images).pixels[0], images[0].flip(0) * 255 - mean)


def test_with_a_seed_an_images_losses_do_not_depend_on_the_rest_of_its_batch() -> None:
    """Two at a time with their seeds = the mean of each alone with its own, so a batch can be divided at will."""
    model = tiny_model()
    images = list(torch.rand(2, 3, 64, 96, generator=generator(5)))
    targets = [{"boxes": random_boxes(3, (64, 96), 10.0), "labels": torch.tensor([1, 2, 3])} for _ in images]
    together = model.losses(images, targets, seeds=[11, 12])
    torch.rand(7)  # torch's own generator has no part in it
    alone = [model.losses([images[i]], [targets[i]], seeds=[11 + i]) for i in (0, 1)]
    for name, loss in together.items():
        assert torch.allclose(loss, (alone[0][name] + alone[1][name]) / 2, rtol=1e-5, atol=1e-6), name
    other = model.losses([images[0]], [targets[0]], seeds=[13])
    assert not torch.equal(other["classification"], alone[0]["classification"])


def test_a_batch_can_be_seen_at_another_size() -> None:
    model = tiny_model()
    image, target = torch.rand(3, 40, 50), {"boxes": random_boxes(2, (40, 50), 8.0), "labels": torch.tensor([1, 2])}
    larger = tiny_model(preprocessing=PreprocessingConfig(target_size=96, max_size=128))
    wanted = larger.losses([image], [target], seeds=[3])
    found = model.losses([image], [target], seeds=[3], target_size=96)
    for name, loss in wanted.items():
        assert torch.equal(loss, found[name]), name
    assert model.config.preprocessing.target_size == 64
