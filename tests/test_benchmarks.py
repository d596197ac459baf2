"""The benchmark's building blocks at a tiny size: same weights, same work, a table. Nothing here looks at the time."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the package, not in it

from benchmarks import compare_torchvision, gpu_busy, operations
from benchmarks.compare_torchvision import Options, Runner, build_both, check_work, main, peak_memory
from benchmarks.peer import build_peer
from benchmarks.report import INFERENCE, SIDES, TRAINING, Result, Side, largest_so_far, table
from benchmarks.workload import Batch, Work, make_batch, measure_work, shortfall
from rcnn_edu.config import (
    AnchorConfig,
    Config,
    DetectionConfig,
    PreprocessingConfig,
    ProposalConfig,
    ProposalTargetConfig,
)
from rcnn_edu.errors import UserError

# 128×160 is a multiple of 32, so that torchvision pads nothing and both see exactly the same pixels.
OPTIONS = Options(rounds=1, warmup=0, device="cpu", height=128, width=160, backbone="resnet18", memory=False)
CONFIG = Config(
    backbone="resnet18",
    num_classes=5,
    pretrained=False,
    preprocessing=PreprocessingConfig(128, 200),
    anchors=AnchorConfig(scales=(2, 4, 8)),
    proposals=ProposalConfig(400, 60),
    test_proposals=ProposalConfig(200, 20),
    proposal_target=ProposalTargetConfig(batch_size=8),
    detection=DetectionConfig(max_detections=10),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    return build_both(OPTIONS, CONFIG, tmp_path_factory.mktemp("weights"))


def test_both_models_have_the_same_weights_and_compute_the_same_from_them(models: dict[Any, Any]) -> None:
    ours, peer = models["ours"].eval(), models["torchvision"].eval()
    convolution = "layer3.1.conv2.weight"
    assert torch.equal(ours.head.get_parameter(convolution), peer.backbone.get_parameter(convolution))
    batch = make_batch(1, 128, 160, 5, seed=1)
    with torch.no_grad():
        pixels = ours.prepare(batch.images).pixels
        prepared, _ = peer.transform(batch.images)
        torch.testing.assert_close(pixels, prepared.tensors, rtol=1e-5, atol=1e-5)
        features = peer.backbone(pixels)
        torch.testing.assert_close(ours.head(pixels), features, rtol=1e-4, atol=1e-4)
        scores, coefficients = ours.rpn(features)
        (logits,), (their_coefficients,) = peer.rpn.head([features])
        torch.testing.assert_close(scores[:, 1::2] - scores[:, 0::2], logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(coefficients, their_coefficients)
        crops = torch.rand(3, 256, 7, 7)
        class_scores, boxes = ours.classifier(crops)
        their_scores, their_boxes = peer.roi_heads.box_predictor(peer.roi_heads.box_head(crops))
    torch.testing.assert_close(class_scores, their_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(boxes, their_boxes, rtol=1e-4, atol=1e-4)


def test_the_same_weights_learn_in_both(models: dict[Any, Any]) -> None:
    learning = {side: [p.numel() for p in models[side].parameters() if p.requires_grad] for side in SIDES}
    hidden, anchors = models["ours"].rpn.rpn_net.out_channels, CONFIG.anchors.per_position
    assert len(learning["ours"]) == len(learning["torchvision"])
    # Ours scores background and foreground, the peer their difference.
    assert sum(learning["ours"]) - sum(learning["torchvision"]) == anchors * (hidden + 1)


@pytest.mark.parametrize("mode", [TRAINING, INFERENCE])
def test_both_models_do_the_same_amount_of_work(models: dict[Any, Any], mode: str) -> None:
    batch = make_batch(2, 128, 160, 5, seed=2)
    work = {}
    for side in SIDES:
        runner = Runner(models[side], torch.device("cpu"), bfloat16=False)
        work[side] = measure_work(runner.model, partial(runner.run, mode, batch), plain=True)
        assert shortfall(work[side], CONFIG, training=mode == TRAINING) == ""
    assert work["ours"][1:] == work["torchvision"][1:]
    assert work["ours"].rois == (16 if mode == TRAINING else 40)
    assert work["ours"].gflop == pytest.approx(work["torchvision"].gflop, rel=0.01)


def test_less_work_is_named() -> None:
    work = Work(1.0, [60, 59], 15, [])
    assert shortfall(work, CONFIG, training=True) == "59 proposals of 60, 15 RoIs of 16"
    work = Work(1.0, [20, 20], 40, [9, 10])
    assert shortfall(work, CONFIG, training=False) == "9 detections of 10"


def test_the_program_prints_a_table_of_both_modes_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_torchvision, "BATCHES", 1)
    monkeypatch.setattr(compare_torchvision, "Config", lambda **_: CONFIG)
    size = ["--backbone", "resnet18", "--height", "128", "--width", "160"]
    brief = ["--rounds", "1", "--warmup", "0", "--device", "cpu", "--no-memory", "--json", str(tmp_path / "all.json")]
    main([*size, *brief])
    printed = capsys.readouterr().out
    for phrase in ("machine", "median seconds an image", "training step: GFLOP", "inference: GFLOP", "detections"):
        assert phrase in printed
    assert "peak memory" not in printed
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["options"]["backbone"] == "resnet18"
    assert [one["mode"] for one in content["results"]] == [TRAINING, INFERENCE]
    for one in content["results"]:
        assert one["ratios"] == [one["seconds"]["ours"][0] / one["seconds"]["torchvision"][0]]


def test_the_table_shows_memory_when_it_was_measured() -> None:
    work = Work(772.0, [300], 300, [100])
    seconds: dict[Side, list[float]] = {"ours": [1.0, 2.0, 6.0], "torchvision": [2.0, 4.0, 3.0]}
    peaks: dict[Side, list[float]] = {"ours": [500.0, 400.0, 900.0], "torchvision": [1000.0, 1200.0, 800.0]}
    printed = table([Result(INFERENCE, {"ours": work, "torchvision": work}, seconds, peaks)], ["setting  none"])
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith("inference ")] == [
        ["2.000", "3.000", "0.50", "(0.50-2.00)"],
        ["500", "1000", "0.50", "(400-900,", "800-1200)"],
    ]


def test_a_model_that_does_less_work_stops_the_comparison(models: dict[Any, Any]) -> None:
    greedy = replace(CONFIG, test_proposals=ProposalConfig(200, 200))
    runners = {side: Runner(models[side], torch.device("cpu"), bfloat16=False) for side in SIDES}
    with pytest.raises(UserError, match=r"inference, batch 0: ours has only 20 proposals of 200, 20 RoIs of 200"):
        check_work(runners, INFERENCE, [make_batch(1, 128, 160, 5, seed=3)], greedy)


def test_peak_memory_is_what_the_process_grew_by(models: dict[Any, Any], tmp_path: Path) -> None:
    for side in SIDES:
        torch.save(models[side].state_dict(), tmp_path / f"{side}.pt")
        before = largest_so_far(torch.device("cpu"))
        peak = peak_memory(side, INFERENCE, OPTIONS, CONFIG, tmp_path)  # in this process: what it had before is in it
        assert peak == (largest_so_far(torch.device("cpu")) - before) / 2**20
    assert before > sum(w.numel() * w.element_size() for w in models["ours"].state_dict().values())


def test_the_busy_share_is_the_union_of_all_intervals() -> None:
    assert gpu_busy.covered([]) == 0
    assert gpu_busy.covered([(5, 7), (0, 2), (1, 3), (6, 6.5), (7, 8)]) == 3 + 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_busy_share_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_busy.main(["--data", "shapes"])
    assert "no GPU was found" in capsys.readouterr().err


def test_operations_are_counted_and_views_are_none() -> None:
    x = torch.ones(4)
    with operations.Operations() as counted:
        (x + 1).view(2, 2).t()[0].mul(2).add_(1)
        torch.empty(3)
    assert counted.by_name == {"add": 1, "mul": 1, "add_": 1}


def test_more_images_are_few_more_operations_for_ours_and_many_for_the_peer(models: dict[Any, Any]) -> None:
    def count(side: Side, mode: str, images: int) -> int:
        batch = make_batch(1, 128, 160, 5, seed=1)
        same = Batch(batch.images * images, batch.targets * images)
        return operations.count(models[side], mode, same).total()

    for mode in (TRAINING, INFERENCE):
        ours, peer = (count(side, mode, 5) - count(side, mode, 1) for side in SIDES)
        assert 0 < ours < peer / 3


def test_the_program_that_counts_operations_prints_both(capsys: pytest.CaptureFixture[str]) -> None:
    totals = operations.run(operations.Options(images=2, height=128, width=160, parts=3), CONFIG)
    printed = capsys.readouterr().out
    assert set(totals) == {TRAINING, INFERENCE}
    for one in totals.values():
        assert str(one["ours"]) in printed
        assert str(one["torchvision"]) in printed
    assert "_to_copy" in printed


def test_the_peer_follows_the_configuration() -> None:
    peer: Any = build_peer(CONFIG, sampling_ratio=1, channels_last=True)
    assert peer.rpn.pre_nms_top_n() == 400
    assert peer.rpn.eval().post_nms_top_n() == 20
    assert peer.roi_heads.box_roi_pool.sampling_ratio == 1
    assert peer.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="vgg16"):
        build_peer(Config(backbone="vgg16"))
