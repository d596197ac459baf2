"""Histograms of what pixels become, and numbers below zero as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.draw.pixel_values import BINS, channel_handles, draw_histograms, signed_picture, value_axes


def test_histograms_count_what_numpy_counts() -> None:
    axes = axes_at(blank_figure(200, 100), 0, 0, 200, 100)
    value_axes(axes, -2, 3, (-2, 0, 3))
    fixed = len(axes.lines)
    bins = torch.randint(0, BINS, (3, 20, 30), generator=torch.Generator().manual_seed(0))
    bins[0, :15] = 7
    artists: Any = draw_histograms(axes, -2 + 5 * (bins + 0.5) / BINS)
    assert list(axes.lines[fixed:]) == artists
    assert axes.get_xlim() == (-2, 3)
    assert axes.get_ylim() == (0, 1.05)
    counts = np.stack([np.bincount(channel.numpy(), minlength=BINS) for channel in bins.flatten(1)])
    for line, expected in zip(artists, counts / counts.max(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-6)
        np.testing.assert_allclose(line.get_xdata(), -2 + 5 * (np.arange(BINS) + 0.5) / BINS)
    assert len({str(line.get_linestyle()) + str(line.get_color()) for line in artists}) == 3


def test_values_outside_the_axes_are_left_out() -> None:
    axes = axes_at(blank_figure(200, 100), 0, 0, 200, 100)
    value_axes(axes, 0, 1, (0, 1))
    values = torch.tensor([[0.5, 7.0], [0.5, 0.5], [-3.0, 9.0]])[:, None]
    lines: Any = draw_histograms(axes, values)
    assert [max(line.get_ydata()) for line in lines] == [0.5, 1.0, 0.0]


def test_legend_names_the_channels_in_order() -> None:
    assert [handle.get_label() for handle in channel_handles(("blue", "green", "red"))] == ["blue", "green", "red"]


def test_zero_is_grey_and_the_furthest_value_an_end() -> None:
    values = torch.tensor([0.0, 1.0, -2.0]).reshape(3, 1, 1)
    assert signed_picture(values).flatten().tolist() == [0.5, 0.75, 0.0]
    assert signed_picture(values, (2, 1, 0)).flatten().tolist() == [0.0, 0.75, 0.5]
    assert signed_picture(torch.zeros(3, 1, 1)).flatten().tolist() == [0.5, 0.5, 0.5]
