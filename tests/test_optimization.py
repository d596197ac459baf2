"""Optimizer, learning rate, and the watch over the losses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from rcnn_edu.optimization import LossCheck, NonFiniteLoss, learning_rate, make_optimizer
from rcnn_edu.recipes import RECIPES
from rcnn_edu.training_config import TrainConfig


def test_the_article_divides_the_learning_rate_by_ten() -> None:
    config = RECIPES["article"]()
    assert learning_rate(config, 0) == learning_rate(config, 49_999) == 1e-3
    assert learning_rate(config, 50_000) == pytest.approx(1e-4)


def test_cosine_falls_from_the_full_rate_through_half_to_nothing() -> None:
    config = replace(TrainConfig(), schedule="cosine", steps=100, learning_rate=2.0)
    assert learning_rate(config, 0) == 2.0
    assert learning_rate(config, 50) == pytest.approx(1.0)
    assert learning_rate(config, 100) == pytest.approx(0.0, abs=1e-12)
    assert learning_rate(config, 25) == pytest.approx(1 + math.cos(math.pi / 4))


def test_warm_up_rises_in_a_line_from_a_hundredth() -> None:
    config = replace(TrainConfig(), warmup_steps=10, learning_rate=1.0)
    assert [learning_rate(config, step) for step in (0, 5, 10)] == pytest.approx([0.01, 0.505, 1.0])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_decay_and_biases_do_not_and_frozen_ones_are_left_out(name: Literal["sgd", "adamw"]) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.GroupNorm(1, 3), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    config = replace(TrainConfig(), optimizer=name, weight_decay=0.25)
    decayed, rest = make_optimizer(config, model).param_groups
    assert decayed["weight_decay"] == 0.25
    assert rest["weight_decay"] == 0
    assert [p is model[0].weight for p in decayed["params"]] == [True]
    assert {id(p) for p in rest["params"]} == {id(model[0].bias), id(model[1].weight), id(model[1].bias)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_images(value: float) -> None:
    check = LossCheck()
    check.follow({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, ["000001"], 1)
    with pytest.raises(NonFiniteLoss, match=r"step 2: the loss b is not finite, on images 000005, 000012"):
        check.follow({"a": torch.tensor(1.0), "b": torch.tensor(value)}, ["000005", "000012"], 2)
    check.finish()  # reported once
