"""Pictures of boxes: pure functions that draw on a matplotlib axes, and never touch pyplot.

Axes show pixels: x to the right, y down, one unit a pixel, and boxes are x1, y1, x2, y2 as everywhere else.
Nothing that is drawn here changes the limits of the axes, except `draw_image`, which sets them to the image.
"""

from rcnn_edu.draw.boxes import draw_boxes, draw_labelled_anchors
from rcnn_edu.draw.colors import BACKGROUND, DONT_CARE, FOREGROUND, KEPT, OBJECT, PROPOSAL
from rcnn_edu.draw.detections import detection_grid, draw_detections
from rcnn_edu.draw.figures import draw_image, new_figure, to_array, to_png
from rcnn_edu.draw.loss_curves import plot_losses

__all__ = [
    "BACKGROUND",
    "DONT_CARE",
    "FOREGROUND",
    "KEPT",
    "OBJECT",
    "PROPOSAL",
    "detection_grid",
    "draw_boxes",
    "draw_detections",
    "draw_image",
    "draw_labelled_anchors",
    "new_figure",
    "plot_losses",
    "to_array",
    "to_png",
]
