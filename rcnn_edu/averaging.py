"""A running average of the weights, which generalises better than the last step's (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """Exponential moving average of what learns in `model`: average ← d · average + (1 − d) · weights, each step.

    decay: the final d, between 0 and 1. Early on d is (1 + steps) / (10 + steps), or the random weights that a short
    run began with would stay in the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._learning.items()}

    def update(self, steps: int) -> None:
        """Take in the weights of the model after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(decay)(list(self._average.values()), list(self._learning.values()), 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: p.detach().clone() for name, p in self._learning.items()}
        self._fill(self._average)
        try:
            yield
        finally:
            self._fill(own)

    def settle(self) -> None:
        """Give the model the averaged weights for good."""
        self._fill(self._average)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name of parameter."""
        return self._average

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`, on whatever device it is."""
        for name, average in self._average.items():
            average.copy_(state[name])

    def _fill(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._learning.items():
                parameter.copy_(weights[name])
