"""What a run says while it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rcnn_edu.errors import UserError
from rcnn_edu.training_log import TrainingLog, duration, read_metrics

CPU = torch.device("cpu")


class Clock:
    """Stands in for `time.perf_counter`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rcnn_edu.training_log.time.perf_counter", clock)
    return clock


def test_after_fifty_steps_it_says_how_long_the_rest_will_take(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, from the speed after the slow first steps; also for a run that goes on from a checkpoint."""
    with TrainingLog(tmp_path, 1100, 1000, CPU) as log:
        for step in range(1, 61):
            clock.now += 100.0 if step <= 5 else 8.0
            log.step(2, 0.0)
            said = "steps that are left" in capsys.readouterr().err
            assert said == (step == 50), step
    with TrainingLog(tmp_path, 9000, 0, CPU) as log:
        for _ in range(50):
            clock.now += 0.5
            log.step(2, 0.0)
    assert "0.5 s a step: the 8,950 steps that are left take about 75 min, until " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (7140, "119 min"), (19_200, "5 h 20 min")]
)
def test_durations_are_rounded_up(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_share_of_time_spent_waiting_for_data_is_written_down(tmp_path: Path, clock: Clock) -> None:
    with TrainingLog(tmp_path, 10, 0, CPU) as log:
        for _ in range(4):
            clock.now += 1.0
            log.step(8, 0.25)
        log.losses(4, {"a": 1.0, "b": 2.5}, 0.01)
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert record["waiting"] == 0.25
    assert record["images_per_second"] == 8.0
    assert record["total"] == 3.5


def test_an_evaluation_is_no_part_of_the_speed(tmp_path: Path, clock: Clock) -> None:
    with TrainingLog(tmp_path, 100, 0, CPU) as log:
        for _ in range(2):  # 2 images/s, half of the time waiting
            clock.now += 1.0
            log.step(2, 0.5)
        log.evaluation(2, {"map_area": 0.5})
        clock.now += 1.0
        log.step(2, 0.5)
        log.losses(3, {"classification": 1.0}, 0.1)
    *_, record = read_metrics(tmp_path / "metrics.jsonl")
    assert (record["images_per_second"], record["waiting"]) == (2.0, 0.5)


def test_the_metrics_of_another_program_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 19, "loss": 1.5}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: has a line without a step; it is of another program"):
        TrainingLog(tmp_path, 10, 0, CPU)
    assert "iteration" in path.read_text()


def test_a_process_that_does_not_write_leaves_the_files_of_the_one_that_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 9}) + "\n")
    with TrainingLog(tmp_path, 60, 0, CPU, writes=False) as log:
        for step in range(1, 61):
            log.step(1, 0.0)
            log.losses(step, {"a": 1.0}, 0.1)
        log.evaluation(60, {"map_area": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 9}]
    assert capsys.readouterr().err == ""
