"""The pictures of lesson 06: areas and curves, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D

from rcnn_edu.draw import new_figure
from rcnn_edu.draw.payments import draw_payments
from rcnn_edu.draw.smooth_l1 import REACH, draw_differences, draw_loss_and_gradient, loss_and_gradient_axes
from rcnn_edu.draw.training_steps import draw_batch_size, gradient_and_loss_axes


def test_a_disc_is_as_large_as_its_payment_and_those_that_pay_most_lie_below() -> None:
    _, axes = new_figure(100, 100)
    boxes = torch.tensor([[0, 0, 10, 20], [20, 30, 40, 50], [60, 0, 80, 10.0]])
    (discs,) = draw_payments(axes, boxes, torch.tensor([0.0, 2.0, 0.5]), "#009E73", area=100, smallest=5)
    assert isinstance(discs, PathCollection)
    assert discs.get_sizes().tolist() == [205, 55, 5]
    assert np.asarray(discs.get_offsets()).tolist() == [[30, 40], [70, 5], [5, 10]]


def test_what_is_drawn_over_the_curves_keeps_their_limits() -> None:
    figure, axes = new_figure(300, 300)
    loss, gradient = loss_and_gradient_axes(figure, axes)
    limits = [(place.get_xlim(), place.get_ylim()) for place in (loss, gradient)]
    x = torch.tensor([-9.0, 0.0, 9.0])
    band, curve, *_ = draw_loss_and_gradient(loss, gradient, x, x.abs(), x.sign(), border=4.0)
    assert isinstance(curve, Line2D)
    assert curve.get_ydata() == pytest.approx([9, 0, 9])
    assert [band.get_x(), band.get_width()] == pytest.approx([-REACH, 2 * REACH])  # type: ignore[attr-defined]
    (above, below) = draw_differences(loss, gradient, x, x.abs(), x.sign())
    assert isinstance(above, Line2D)
    assert isinstance(below, Line2D)
    assert above.get_xdata() == pytest.approx([-REACH, 0, REACH])
    assert below.get_ydata() == pytest.approx([-1, 0, 1])
    assert limits == [(place.get_xlim(), place.get_ylim()) for place in (loss, gradient)]


def test_the_rings_lie_on_the_curves() -> None:
    _, left, right = gradient_and_loss_axes([32, 64], {"mean": [1.0, 1.0], "sum": [32.0, 64.0]}, largest=3.0)
    artists = draw_batch_size(left, right, 64, (1.0, 64.0), ([0.3, 0.2], [0.3, 3.0]))
    drawn = [artist.get_ydata() for artist in artists if isinstance(artist, Line2D)]
    assert [list(np.asarray(values)) for values in drawn] == [[1.0], [0.3, 0.2], [64.0], [0.3, 3.0]]
