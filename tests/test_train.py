"""Training as a user runs it: on drawn shapes, in its own process, interrupted, resumed, and given bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rcnn_edu import evaluate
from rcnn_edu.boxes import box_iou
from rcnn_edu.checkpoint import load, read_checkpoint
from rcnn_edu.config import Config, DetectionConfig, PreprocessingConfig
from rcnn_edu.data import SHAPE_CLASSES, write_shapes

SMALL = """
--recipe shapes --amp off --workers 0 --batch-size 2 --device cpu --rpn-channels 32 --anchors.scales 1 2 3
--preprocessing.target-size 96 --preprocessing.max-size 128 --proposals.pre-nms-top-n 200
--proposals.post-nms-top-n 60 --test-proposals.post-nms-top-n 30 --proposal-target.batch-size 16
""".split()  # noqa: SIM905 - as one would type it


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scenes to train on and three to evaluate on."""
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=10, val=3, seed=1, size=(96, 128))


def command(program: str, *options: str | Path) -> list[str]:
    return [sys.executable, "-m", f"rcnn_edu.{program}", *map(str, options)]


def training(data: Path, output: Path, *options: str | Path) -> list[str]:
    """A command that trains a small model on `data`."""
    return command("train", "--data", data, "--classes", *SHAPE_CLASSES, "--output", output, *SMALL, *options)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    return subprocess.run(arguments, capture_output=True, text=True, timeout=180, check=False, env=environment)


def succeed(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    done = run(arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture
def refuse(capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command in this process: it must end with exit code 2 and one line that has all of `parts` in it."""

    def check(arguments: list[str], *parts: str | Path) -> None:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            import_module(arguments[2]).main(arguments[3:])
        errors = capfd.readouterr().err
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert stopped.value.code == 2, errors
        assert len(lines) == 1, errors
        assert "Traceback" not in errors
        for part in parts:
            assert str(part) in lines[0]

    return check


Refuse = Callable[..., None]

EIGHT_STEPS = """
--steps 8 --log-every 1 --evaluate-every 4 --accumulate 2 --ema 0.9 --target-sizes 64 80 96
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a run of eight steps that nothing interrupted."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    done = succeed(training(shapes, output, *EIGHT_STEPS))
    return output, done.stdout


def test_a_run_leaves_all_that_it_promises(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [record for record in records if "total" in record]
    assert [record["step"] for record in losses] == list(range(1, 9))
    assert [record["step"] for record in records if "map_area" in record] == [4, 8]
    names = ("rpn_classification", "rpn_regression", "classification", "regression")
    for record in losses:
        assert record["total"] == pytest.approx(sum(record[name] for name in names), rel=1e-4)
    for name in ("losses.png", "detections.png"):
        with Image.open(folder / name) as picture:
            assert picture.size > (300, 200)
    assert list((folder / "tensorboard").glob("events*"))
    assert (folder / "ap.txt").read_text().strip() in printed
    assert {"map_area", "map_11point", "coco_ap"} <= json.loads((folder / "ap.json").read_text()).keys()
    assert [one["image_id"] for one in json.loads((folder / "detections.json").read_text())] == [
        "val_00000", "val_00001", "val_00002",
    ]  # fmt: skip
    model = load(folder / "model.pt")
    assert model.classes == SHAPE_CLASSES
    assert not model.training
    assert load(folder).state_dict().keys() == model.state_dict().keys()


def test_a_checkpoint_tells_nothing_of_the_folders_that_it_was_made_in(
    finished: tuple[Path, str], shapes: Path
) -> None:
    for name in ("model.pt", "checkpoint.pt"):
        content = (finished[0] / name).read_bytes()  # a zip archive that compresses nothing
        assert b"shapes" in content
        assert str(shapes.parent).encode() not in content
        assert str(finished[0].parent).encode() not in content


def test_the_model_is_the_average_of_the_weights_and_the_checkpoint_the_last(finished: tuple[Path, str]) -> None:
    averaged, last = (read_checkpoint(finished[0] / name) for name in ("model.pt", "checkpoint.pt"))
    assert len(last["trained_on"]["images"]) == 10
    assert last["trained_on"] == averaged["trained_on"]
    for name, average in last["training"]["averaged"].items():
        assert torch.equal(average, averaged["weights"][name])
    assert not torch.equal(averaged["weights"]["rpn.rpn_net.weight"], last["weights"]["rpn.rpn_net.weight"])


def test_killed_and_resumed_equals_uninterrupted(finished: tuple[Path, str], shapes: Path, tmp_path: Path) -> None:
    """SIGKILL between two checkpoints: the continuation repeats the lost steps and ends with the same weights.

    So it is with an evaluation that was due at the checkpoint and did not happen.
    """
    arguments = training(shapes, tmp_path / "killed", *EIGHT_STEPS, "--checkpoint-every", "4")
    process = subprocess.Popen(
        arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ, OMP_NUM_THREADS="1")
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and '"step": 5, "rpn' in metrics.read_text():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    assert read_checkpoint(tmp_path / "killed" / "checkpoint.pt")["training"]["step"] == 4
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(line for line in lines if "map_area" not in line))
    assert len(metrics.read_text().splitlines()) == len(lines) - 1

    succeed([*arguments, "--resume"])
    whole, resumed = (read_checkpoint(folder / "model.pt") for folder in (finished[0], tmp_path / "killed"))
    assert whole["weights"].keys() == resumed["weights"].keys()
    for name, weight in whole["weights"].items():
        assert torch.equal(weight, resumed["weights"][name]), name

    def losses(folder: Path) -> list[tuple[int, float]]:
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(record["step"], record["total"]) for record in records if "total" in record]

    def evaluations(folder: Path) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [record for record in records if "map_area" in record]

    assert losses(finished[0]) == losses(tmp_path / "killed")
    assert evaluations(finished[0]) == evaluations(tmp_path / "killed")


def test_sigterm_saves_and_says_how_to_go_on(shapes: Path, tmp_path: Path) -> None:
    """Also when it is sent to the processes that decode images too, as job schedulers do."""
    process = subprocess.Popen(
        training(shapes, tmp_path / "run", "--steps", "4000", "--log-every", "1", "--workers", "1"),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"),
        start_new_session=True,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and '"step": 2' in metrics.read_text()):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["training"]["step"] >= 2


@pytest.mark.parametrize("evaluation", [1, 2], ids=["on the way", "at the end"])
def test_stopped_in_an_evaluation_and_resumed_equals_uninterrupted(
    finished: tuple[Path, str], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], evaluation: int,
) -> None:  # fmt: skip
    run = import_module("rcnn_edu.run")
    detector, calls = run.run_detector, []

    def asked_to_stop(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == evaluation:
            signal.raise_signal(signal.SIGTERM)
        return detector(*arguments)

    monkeypatch.setattr(run, "run_detector", asked_to_stop)
    arguments = training(shapes, tmp_path / "run", *EIGHT_STEPS)
    import_module("rcnn_edu.train").main(arguments[3:])
    assert len(calls) == evaluation
    assert f"stopped after step {4 * evaluation} of 8; go on with --resume" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.pt").exists()

    import_module("rcnn_edu.train").main([*arguments[3:], "--resume"])
    for name in ("ap.json", "detections.json"):
        assert (tmp_path / "run" / name).read_text() == (finished[0] / name).read_text()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "map_area" in record] == [4, 8]


def test_a_finished_run_may_be_resumed_and_says_the_same(
    finished: tuple[Path, str], shapes: Path, tmp_path: Path
) -> None:
    output = _run_folder(finished, tmp_path / "run")
    succeed(training(shapes, output, *EIGHT_STEPS, "--resume"))
    assert (output / "ap.txt").read_text() == (finished[0] / "ap.txt").read_text()
    assert (output / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()


def test_resuming_with_other_options_is_refused(refuse: Refuse, finished: tuple[Path, str], shapes: Path) -> None:
    again = training(shapes, finished[0], *EIGHT_STEPS, "--resume", "--learning-rate", "0.5")
    refuse(again, finished[0], "--learning-rate 0.0015 (now 0.5)")


def test_a_folder_with_a_run_is_not_overwritten_unasked(
    refuse: Refuse, finished: tuple[Path, str], shapes: Path
) -> None:
    refuse(training(shapes, finished[0], "--steps", "8"), finished[0], "--resume", "--overwrite")


def test_resuming_where_there_is_nothing_is_refused(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    refuse(training(shapes, tmp_path / "no", "--resume"), tmp_path / "no", "--output")


def test_evaluate_prints_every_average_precision(finished: tuple[Path, str], shapes: Path, tmp_path: Path) -> None:
    arguments = command(
        "evaluate", finished[0], "--data", shapes, "--classes", *SHAPE_CLASSES, "--workers", "0", "--output", tmp_path
    )
    done = succeed(arguments)
    assert (finished[0] / "ap.txt").read_text().strip() in done.stdout
    for part in ("AP area", "AP 11-point", "COCO AP@[.50:.95]", *SHAPE_CLASSES):
        assert part in done.stdout
    assert "WARNING" not in done.stderr
    assert json.loads((tmp_path / "ap.json").read_text()) == json.loads((finished[0] / "ap.json").read_text())


def largest_overlap(images: list[dict[str, Any]]) -> float:
    """IoU of the two detections of one class in one image that overlap most."""
    most = 0.0
    for image in images:
        for label in SHAPE_CLASSES:
            boxes = [one["box"] for one in image["detections"] if one["label"] == label]
            if len(boxes) > 1:
                most = max(most, float(box_iou(torch.tensor(boxes), torch.tensor(boxes)).fill_diagonal_(0).max()))
    return most


def test_evaluating_with_another_threshold_and_size(finished: tuple[Path, str], shapes: Path, tmp_path: Path) -> None:
    def detections(*options: str) -> list[dict[str, Any]]:
        evaluate.main([
            str(finished[0]), "--data", str(shapes), "--classes", *SHAPE_CLASSES, "--workers", "0",
            "--output", str(tmp_path), *options,
        ])  # fmt: skip
        found: list[dict[str, Any]] = json.loads((tmp_path / "detections.json").read_text())
        return found

    usual = detections()
    assert detections("--nms-threshold", "0.3", "--target-size", "96") == usual  # the model's own
    assert 0 < largest_overlap(usual) < 0.31  # corners are written with two digits
    assert largest_overlap(detections("--nms-threshold", "0.1")) < 0.11
    assert largest_overlap(detections("--nms-threshold", "0.8")) > 0.5
    assert detections("--target-size", "64") != usual


def test_a_size_changes_the_limit_of_the_longer_side_with_it() -> None:
    config = evaluate.changed(Config(), 300, None)
    assert config == Config(preprocessing=PreprocessingConfig(300, 500))
    assert evaluate.changed(config, None, None) == config
    assert evaluate.changed(config, None, 0.5).detection == DetectionConfig(nms_threshold=0.5)


@pytest.mark.parametrize(("option", "value"), [("--nms-threshold", "1.5"), ("--target-size", "0")])
def test_a_threshold_or_size_that_cannot_be_is_refused(
    refuse: Refuse, finished: tuple[Path, str], shapes: Path, option: str, value: str
) -> None:
    arguments = command("evaluate", finished[0], "--data", shapes, "--classes", *SHAPE_CLASSES, option, value)
    refuse(arguments, option[2:].replace("-", "_"), value)


def test_evaluating_on_trained_images_is_announced(finished: tuple[Path, str], shapes: Path) -> None:
    arguments = command(
        "evaluate", finished[0], "--data", shapes, "--val-split", "train", "--classes", *SHAPE_CLASSES, "--workers", "0"
    )
    assert "WARNING: the model was trained on 10 of these 10 images" in succeed(arguments).stderr


def test_evaluating_with_other_classes_is_refused(refuse: Refuse, finished: tuple[Path, str], shapes: Path) -> None:
    refuse(command("evaluate", finished[0], "--data", shapes, "--classes", "circle", "--skip-bad"), "star", "--classes")


def test_a_missing_dataset_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    refuse(training(tmp_path / "nowhere", tmp_path / "run"), tmp_path / "nowhere")


def test_voc_that_is_not_there_is_refused_with_the_remedy(refuse: Refuse, tmp_path: Path) -> None:
    arguments = command("train", "--data", "voc2007", "--data-folder", tmp_path, "--output", tmp_path / "run")
    refuse(arguments, "voc2007", "--download")


def test_an_unknown_class_is_refused(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    arguments = command("train", "--data", shapes, "--output", tmp_path / "run", *SMALL, "--classes", "circle", "star")
    refuse(arguments, "train_0000", "--skip-bad")


def _copy(shapes: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", str(shapes), str(to)], check=True)
    return to


def test_an_inverted_box_is_refused(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    data = _copy(shapes, tmp_path / "data")
    annotation = data / "Annotations" / "train_00003.xml"
    text = annotation.read_text()
    left = text.split("<xmin>")[1].split("</xmin>")[0]
    right = text.split("<xmax>")[1].split("</xmax>")[0]
    text = text.replace(f"<xmin>{left}<", f"<xmin>{right}<", 1).replace(f"<xmax>{right}<", f"<xmax>{left}<", 1)
    annotation.write_text(text)
    refuse(training(data, tmp_path / "run"), annotation, right, left)


def test_a_truncated_jpeg_is_refused(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    data = _copy(shapes, tmp_path / "data")
    image = data / "JPEGImages" / "train_00004.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    refuse(training(data, tmp_path / "run"), image)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_breaks_only_when_decoded_is_refused(
    refuse: Refuse, shapes: Path, tmp_path: Path, workers: str
) -> None:
    """Header and end are whole, so reading the dataset finds nothing; the middle is gone."""
    data = _copy(shapes, tmp_path / "data")
    image = _break(data / "JPEGImages" / "train_00004.jpg")
    refuse(training(data, tmp_path / "run", "--steps", "6", "--workers", workers), image)


def test_an_image_to_evaluate_on_that_breaks_when_decoded_is_refused(
    refuse: Refuse, shapes: Path, tmp_path: Path
) -> None:
    data = _copy(shapes, tmp_path / "data")
    image = _break(data / "JPEGImages" / "val_00001.jpg")
    refuse(training(data, tmp_path / "run", "--steps", "1"), image, "cannot be decoded")
    done = succeed(training(data, tmp_path / "run", "--steps", "1", "--overwrite", "--skip-bad"))
    assert f"left out: {image}" in done.stderr


def weights_after(arguments: list[str], folder: Path) -> dict[str, torch.Tensor]:
    """Trains in this process."""
    import_module("rcnn_edu.train").main(arguments[3:])
    weights: dict[str, torch.Tensor] = read_checkpoint(folder / "model.pt")["weights"]
    return weights


@pytest.mark.parametrize(
    "options",
    [
        ["--clip-norm", "0.001"],
        ["--no-flip"],
        ["--target-sizes", "64"],
        ["--momentum", "0.0"],
        ["--weight-decay", "0.5"],
        ["--schedule", "step"],
        ["--warmup-steps", "9"],
        ["--amp", "bf16"],
        ["--seed", "1"],
        ["--classifier-sigma", "3.0"],
    ],
    ids=" ".join,
)
def test_an_option_of_training_has_an_effect(shapes: Path, tmp_path: Path, options: list[str]) -> None:
    sgd = [
        "--steps",
        "3",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "0.01",
        "--warmup-steps",
        "0",
        "--clip-norm",
        "None",
    ]
    with_it, without = (
        weights_after(training(shapes, tmp_path / name, *sgd, *more), tmp_path / name)
        for name, more in (("with", options), ("without", []))
    )
    name = "classifier.cls_score_net.weight"
    assert torch.isfinite(with_it[name]).all()
    assert (with_it[name] - without[name]).abs().max() > 1e-6


def test_with_skip_bad_it_is_left_out_and_counted(shapes: Path, tmp_path: Path) -> None:
    data = _copy(shapes, tmp_path / "data")
    image = _break(data / "JPEGImages" / "train_00004.jpg")
    done = succeed(training(data, tmp_path / "run", "--steps", "5", "--skip-bad"))
    assert f"left out: {image}" in done.stdout + done.stderr


def _break(image: Path) -> Path:
    """Store the image as PNG, and spoil a byte in the middle of its pixels."""
    broken = image.with_suffix(".png")
    with Image.open(image) as opened:
        opened.save(broken)
    image.unlink()
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 0xFF
    broken.write_bytes(content)
    return broken


def test_a_checkpoint_of_another_class_count_is_refused(
    refuse: Refuse, finished: tuple[Path, str], shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((finished[0] / "checkpoint.pt").read_bytes())
    arguments = command("train", "--data", shapes, "--output", tmp_path, *SMALL, "--resume", "--skip-bad")
    refuse([*arguments, "--classes", *SHAPE_CLASSES[:3]], tmp_path, "5 classes", "3", "--classes")


def test_a_checkpoint_of_another_backbone_is_refused(
    refuse: Refuse, finished: tuple[Path, str], shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((finished[0] / "checkpoint.pt").read_bytes())
    arguments = training(shapes, tmp_path, "--resume", "--backbone", "resnet18", "--no-pretrained")
    refuse(arguments, tmp_path, "tiny", "resnet18", "--backbone tiny")


def test_a_loss_that_is_not_finite_names_term_and_images(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    arguments = training(shapes, tmp_path / "run", "--steps", "30", "--learning-rate", "1e30", "--warmup-steps", "0")
    refuse([*arguments, "--optimizer", "sgd", "--clip-norm", "None"], "not finite", "train_000", "--learning-rate")


def _run_folder(finished: tuple[Path, str], output: Path) -> Path:
    output.mkdir()
    for name in ("checkpoint.pt", "model.pt", "metrics.jsonl", "ap.txt"):
        (output / name).write_bytes((finished[0] / name).read_bytes())
    return output


def test_resuming_with_other_images_or_classes_is_refused(
    refuse: Refuse, finished: tuple[Path, str], shapes: Path, tmp_path: Path
) -> None:
    output = _run_folder(finished, tmp_path / "run")
    fewer = _copy(shapes, tmp_path / "fewer")
    listed = fewer / "ImageSets" / "Main" / "train.txt"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:7]))
    message = "was trained on 10 images; 3 of them are not there now, and 0 are new"
    refuse(training(fewer, output, *EIGHT_STEPS, "--resume"), output / "checkpoint.pt", message)

    arguments = training(shapes, output, *EIGHT_STEPS, "--resume")
    first = arguments.index(SHAPE_CLASSES[0])
    arguments[first], arguments[first + 1] = arguments[first + 1], arguments[first]
    refuse(arguments, output / "checkpoint.pt", ", ".join(SHAPE_CLASSES), "--classes")


def test_a_new_run_in_an_old_folder_leaves_nothing_of_the_old_one(
    finished: tuple[Path, str], shapes: Path, tmp_path: Path
) -> None:
    output = _run_folder(finished, tmp_path / "run")
    (output / "notes.txt").write_text("mine")
    process = subprocess.Popen(
        training(shapes, output, "--steps", "4000", "--overwrite"),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    old = [output / name for name in ("checkpoint.pt", "model.pt", "ap.txt")]
    while time.monotonic() < deadline and any(path.exists() for path in old):
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    assert {path.name for path in output.iterdir()} <= {"notes.txt", "metrics.jsonl", "tensorboard"}
    assert (output / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("left", ["model.pt", "metrics.jsonl"])
def test_what_is_left_of_a_run_is_not_replaced_unasked(refuse: Refuse, shapes: Path, tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("all that there is")
    refuse(training(shapes, tmp_path, "--steps", "2"), tmp_path, f"holds a run already ({left})", "--overwrite")
    assert (tmp_path / left).read_text() == "all that there is"


def test_an_output_folder_that_cannot_be_is_refused_before_anything_is_done(
    refuse: Refuse, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        refuse(training(shapes, output, "--steps", "2"), output, f"{tmp_path / 'file'} is a file", "--output")
        evaluating = command("evaluate", "shapes", "--data", shapes, "--output", output)
        refuse(evaluating, output, f"{tmp_path / 'file'} is a file", "--output")


def test_a_dataset_of_ones_own_is_evaluated_with_the_models_classes(
    finished: tuple[Path, str], shapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import_module("rcnn_edu.evaluate").main(["--data", str(shapes), "--workers", "0", str(finished[0])])
    assert "circle" in capfd.readouterr().out


def test_what_is_left_out_of_both_splits_is_told(shapes: Path, tmp_path: Path) -> None:
    data = _copy(shapes, tmp_path / "data")
    for name in ("train_00002", "val_00001"):
        (data / "Annotations" / f"{name}.xml").unlink()
    done = succeed(training(data, tmp_path / "run", "--steps", "1", "--skip-bad"))
    for line in (
        "train_00002.xml",
        "val_00001.xml",
        "train: 1 problem is left out, 9 images",
        "val: 1 problem is",
    ):
        assert line in done.stderr
    assert "trained on too" not in done.stderr


def test_evaluating_on_the_training_images_is_told(shapes: Path, tmp_path: Path) -> None:
    done = succeed(training(shapes, tmp_path / "run", "--steps", "1", "--val-split", "trainval"))
    assert "WARNING: 10 of the 13 images to evaluate on are trained on too" in done.stderr


def test_another_number_of_classes_than_the_datasets_is_refused(refuse: Refuse, shapes: Path, tmp_path: Path) -> None:
    refuse(
        training(shapes, tmp_path / "run", "--num-classes", "3"),
        "--num-classes 3",
        "5 classes",
        "6 in all",
        "--classes",
    )


@pytest.mark.parametrize(
    ("option", "value", "name", "must_be"),
    [
        ("--steps", "0", "steps", "positive"),
        ("--learning-rate", "nan", "learning_rate", "positive"),
        ("--seed", "-1", "seed", "0..2^63"),
        ("--anchors.stride", "8", "stride", "16"),
        ("--anchor-target.fg-fraction", "1.5", "fg_fraction", "0..1"),
    ],
)
def test_a_number_out_of_range_is_refused(
    shapes: Path, capfd: pytest.CaptureFixture[str], option: str, value: str, name: str, must_be: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        import_module("rcnn_edu.train").main(training(shapes, Path("unused"), option, value)[3:])
    assert stopped.value.code == 2
    printed = "".join(capfd.readouterr())
    for part in (name, value, must_be):
        assert part in printed


def test_an_unknown_recipe_is_refused(refuse: Refuse) -> None:
    refuse(command("train", "--recipe", "secret"), "secret", "article")
