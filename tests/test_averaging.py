"""The running average of the weights."""

from __future__ import annotations

import torch
from torch import nn

from rcnn_edu.averaging import AveragedWeights


def moved(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_the_average_is_that_of_a_loop_over_numbers() -> None:
    """With the decay growing to its value, 1 + n over 10 + n at first."""
    model = nn.Linear(1, 1, bias=False)
    averaged = AveragedWeights(model, 0.6)
    by_hand = model.weight.item()
    for steps in range(1, 31):
        moved(model)
        averaged.update(steps)
        decay = (1 + steps) / (10 + steps) if (1 + steps) / (10 + steps) < 0.6 else 0.6
        by_hand = decay * by_hand + (1 - decay) * model.weight.item()
        assert abs(averaged.state_dict()["weight"].item() - by_hand) < 1e-5


def test_the_models_own_weights_come_back_bit_for_bit_and_frozen_ones_stay() -> None:
    frozen, learning = nn.Linear(3, 4), nn.Linear(4, 2)
    model = nn.Sequential(frozen.requires_grad_(False), learning)
    averaged = AveragedWeights(model, 0.9)
    moved(model)
    averaged.update(5)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with averaged.in_place():
        assert torch.equal(learning.weight, averaged.state_dict()["1.weight"])
        assert not torch.equal(learning.weight, own["1.weight"])
        assert torch.equal(frozen.weight, own["0.weight"])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert averaged.state_dict().keys() == {"1.weight", "1.bias"}
    averaged.settle()
    assert torch.equal(learning.weight, averaged.state_dict()["1.weight"])


def test_what_is_saved_goes_on_as_if_nothing_had_happened() -> None:
    model = nn.Linear(3, 2)
    first, second = AveragedWeights(model, 0.9), AveragedWeights(model, 0.9)
    moved(model)
    first.update(1)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    moved(model)
    first.update(2)
    second.update(2)
    assert torch.equal(first.state_dict()["weight"], second.state_dict()["weight"])
