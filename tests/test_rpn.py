"""Region proposal network: its three convolutions, and the order of its rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rcnn_edu.anchors import grid_anchors
from rcnn_edu.rpn import RPN, RPNOutput


def test_three_convolutions_and_a_relu() -> None:
    rpn, features = RPN(8, 16, 3), torch.randn(2, 8, 5, 6)
    output = rpn(features)
    hidden = F.conv2d(features, rpn.rpn_net.weight, rpn.rpn_net.bias, padding=1).relu()
    scores = torch.einsum("bchw,kc->bkhw", hidden, rpn.rpn_cls_score_net.weight[:, :, 0, 0])
    coefficients = torch.einsum("bchw,kc->bkhw", hidden, rpn.rpn_bbox_pred_net.weight[:, :, 0, 0])
    assert scores.shape == (2, 6, 5, 6)
    assert coefficients.shape == (2, 12, 5, 6)
    torch.testing.assert_close(output.class_scores, scores)  # biases start at 0
    torch.testing.assert_close(output.coefficients, coefficients)


def test_all_three_start_small() -> None:
    rpn = RPN(64)
    for layer in (rpn.rpn_net, rpn.rpn_cls_score_net, rpn.rpn_bbox_pred_net):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_rows_are_in_the_order_of_the_grids_anchors_without_padding() -> None:
    height, width, anchors = 3, 4, 9
    # Each value says where it is: cell (y, x), anchor k, column c; the maps are padded by a row and two columns.
    y, x = torch.meshgrid(torch.arange(height + 1), torch.arange(width + 2), indexing="ij")
    place = 1000 * y + 100 * x
    scores = torch.stack([place + 10 * k + c for k in range(anchors) for c in range(2)])
    coefficients = torch.stack([place + 10 * k + c for k in range(anchors) for c in range(4)])
    output = RPNOutput(scores[None], coefficients[None])
    score_rows, coefficient_rows = output.of_image(0, (height, width))
    assert score_rows.shape == (height * width * anchors, 2)
    assert len(coefficient_rows) == len(grid_anchors((height, width)))
    row = 0
    for cell_y in range(height):
        for cell_x in range(width):
            for k in range(anchors):
                start = 1000 * cell_y + 100 * cell_x + 10 * k
                assert score_rows[row].tolist() == [start, start + 1]
                assert coefficient_rows[row].tolist() == [start, start + 1, start + 2, start + 3]
                row += 1
