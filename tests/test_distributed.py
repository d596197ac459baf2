"""Two processes on the CPU, joined by gloo, take the same steps and find the same things as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from rcnn_edu.checkpoint import read_checkpoint
from rcnn_edu.command_line import parse_training
from rcnn_edu.data import SHAPE_CLASSES, write_shapes
from rcnn_edu.data.batches import Share
from rcnn_edu.data.loader import training_loader
from rcnn_edu.distributed import Processes, start_processes
from rcnn_edu.errors import UserError
from rcnn_edu.recipes import with_classes
from rcnn_edu.run import Run
from rcnn_edu.train import main, prepare, train
from rcnn_edu.training_config import TrainConfig

SMALL = """
--recipe shapes --amp off --workers 0 --batch-size 4 --device cpu --rpn-channels 32 --anchors.scales 1 2 3
--preprocessing.target-size 96 --preprocessing.max-size 128 --proposals.pre-nms-top-n 200
--proposals.post-nms-top-n 60 --test-proposals.post-nms-top-n 30 --proposal-target.batch-size 16
--optimizer sgd --learning-rate 0.02 --ema 0.9 --target-sizes 64 96 --log-every 1
""".split()  # noqa: SIM905 - as one would type it


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scenes to train on and five to evaluate on."""
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=8, val=5, seed=2, size=(96, 128))


def options(data: Path, output: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--classes", *SHAPE_CLASSES, "--output", str(output), *SMALL, *more]


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(rank, …)` in two fresh processes that are set up as torchrun does."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    spawn(_work, (port, work, arguments), nprocs=2)


def _work(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port)
    )
    work(rank, *arguments)


def first_step(config: TrainConfig, processes: Processes, device: torch.device) -> tuple[dict[str, Tensor], Run]:
    """The gradients of a run's first step, taken without moving the weights, and the run."""
    model, training, validation = prepare(config, processes)
    run = Run(with_classes(config, 5), model, training, validation, device, processes)
    run.model.train()
    share = Share(processes.rank, processes.count, config.accumulate)
    loader = training_loader(training, config.batch_size, 0, 1, workers=0, share=share)
    losses = run.step(list(loader), rate=0.0)
    gradients = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
    return gradients | {f"loss {name}": processes.mean(loss) for name, loss in losses.items()}, run


def compute(rank: int, arguments: list[list[str]], folder: Path) -> None:
    """Gradients for each list of arguments, and the detections of the last one's model."""
    with start_processes("cpu") as (processes, device):
        for number, one in enumerate(arguments):
            gradients, run = first_step(parse_training(one), processes, device)
            torch.save(gradients, folder / f"gradients-{number}-{rank}.pt")
        found = [(one.index, one.found, one.target["image_id"]) for one in run.detect()]
        torch.save(found, folder / f"found-{rank}.pt")
        try:
            with processes.together():
                if rank == 1:
                    raise UserError("only the second process met this")
        except UserError as error:
            (folder / f"error-{rank}.txt").write_text(str(error))


def test_two_processes_have_the_gradients_and_the_detections_of_one(shapes: Path, tmp_path: Path) -> None:
    """Half a batch each, in one pass or two; and with an image missing, after which one process has nothing to do."""
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", str(shapes), str(broken)], check=True)
    lost_in = options(broken, tmp_path / "no", "--batch-size", "2", "--skip-bad", "--clip-norm", "None")
    whole = options(shapes, tmp_path / "no", "--clip-norm", "None")
    keys = list(training_loader(prepare(parse_training(lost_in), Processes())[1], 2, 0, 1, workers=0))
    image_id = keys[0].image_ids[1]
    break_image(broken / "JPEGImages" / f"{image_id}.jpg")

    in_two_processes(compute, [whole, [*whole, "--accumulate", "2"], lost_in, whole], tmp_path)
    one, cpu = Processes(), torch.device("cpu")
    for number, arguments in enumerate([whole, whole, lost_in]):
        wanted, _ = first_step(parse_training(arguments), one, cpu)
        for rank in (0, 1):
            found = torch.load(tmp_path / f"gradients-{number}-{rank}.pt")
            assert found.keys() == wanted.keys()
            for name, gradient in wanted.items():
                assert (found[name] - gradient).abs().max() <= 1e-5, (number, name)
        assert max(gradient.abs().max() for gradient in wanted.values()) > 0.1  # or the comparison says nothing

    _, run = first_step(parse_training(whole), one, cpu)
    found = torch.load(tmp_path / "found-0.pt")
    assert torch.load(tmp_path / "found-1.pt") == []
    assert [(index, image_id) for index, _, image_id in found] == [(i, f"val_{i:05}") for i in range(5)]
    for alone, (_, boxes, _) in zip(run.detect(), found, strict=True):
        assert len(boxes["boxes"]) > 0
        assert all(torch.equal(alone.found[key], boxes[key]) for key in ("boxes", "labels", "scores"))
    for rank in (0, 1):
        assert (tmp_path / f"error-{rank}.txt").read_text() == "only the second process met this"


def test_passes_of_one_process_have_the_gradients_of_the_whole_batch(shapes: Path, tmp_path: Path) -> None:
    arguments = options(shapes, tmp_path / "no", "--clip-norm", "None")
    wanted, _ = first_step(parse_training(arguments), Processes(), torch.device("cpu"))
    found, _ = first_step(parse_training([*arguments, "--accumulate", "4"]), Processes(), torch.device("cpu"))
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= 1e-5, name


def break_image(image: Path) -> None:
    """Store it as a PNG that opens, but whose pixels cannot be read."""
    with Image.open(image) as opened:
        opened.save(image.with_suffix(".png"))
    image.unlink()
    content = bytearray(image.with_suffix(".png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    image.with_suffix(".png").write_bytes(content)


def stop_the_second(rank: int, arguments: list[str]) -> None:
    """Train; the second process alone is sent SIGTERM in its third step."""
    step = Run.step

    def step_and_signal(run: Run, *values: Any) -> dict[str, Tensor]:
        if rank == 1 and run.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(run, *values)

    Run.step = step_and_signal  # type: ignore[method-assign, assignment]
    train(parse_training(arguments))


def test_a_run_of_two_processes_goes_on_in_one(shapes: Path, tmp_path: Path) -> None:
    """And ends where one process would have: what is drawn does not depend on the number of processes."""
    arguments = options(shapes, tmp_path / "two", "--steps", "6")
    in_two_processes(stop_the_second, arguments)
    assert read_checkpoint(tmp_path / "two" / "checkpoint.pt")["training"]["step"] == 3
    assert not (tmp_path / "two" / "model.pt").exists()
    main([*arguments, "--resume"])
    main(options(shapes, tmp_path / "one", "--steps", "6"))
    for file in ("checkpoint.pt", "model.pt"):
        two, one = (read_checkpoint(tmp_path / folder / file)["weights"] for folder in ("two", "one"))
        for name, weight in one.items():
            assert torch.allclose(two[name], weight, rtol=1e-4, atol=1e-5), (file, name)


def launched(program: str, *arguments: str | Path) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, "-m", f"rcnn_edu.{program}", *map(str, arguments)]


def torchrun(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        launched(program, *arguments),
        capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip


def test_torchrun_trains_and_evaluates_and_only_one_process_speaks(shapes: Path, tmp_path: Path) -> None:
    done = torchrun("train", *options(shapes, tmp_path / "run", "--steps", "2"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("AP 11-point: ") == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    done = torchrun(
        "evaluate", tmp_path / "run", "--data", shapes, "--classes", *SHAPE_CLASSES, "--val-split", "train",
        "--workers", "0", "--output", tmp_path / "evaluated", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("on 8 images of") == 1
    assert done.stderr.count("WARNING: the model was trained on 8 of these 8 images") == 1


def test_torchrun_told_to_stop_leaves_a_checkpoint(shapes: Path, tmp_path: Path) -> None:
    arguments = options(shapes, tmp_path / "run", "--steps", "4000", "--workers", "1")
    process = subprocess.Popen(
        launched("train", *arguments),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and '"step": 2' in metrics.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert errors.count("go on with --resume") == 1, errors[-3000:]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["training"]["step"] >= 2


def test_what_befalls_one_process_ends_all_with_one_line(shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    subprocess.run(["cp", "-r", str(shapes), str(data)], check=True)
    for image in sorted((data / "JPEGImages").glob("train_*.jpg"))[3:5]:
        break_image(image)
    done = torchrun("train", *options(data, tmp_path / "run", "--steps", "4"))
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "JPEGImages/train_0000" in line


def test_a_batch_that_cannot_be_divided_is_refused(shapes: Path, tmp_path: Path) -> None:
    config = parse_training(options(shapes, tmp_path, "--accumulate", "3"))
    model, training, validation = prepare(config, Processes())
    with pytest.raises(UserError, match=r"--batch-size 4 .* 2 processes × --accumulate 3; choose a multiple of 6"):
        Run(with_classes(config, 5), model, training, validation, torch.device("cpu"), Processes(count=2))
