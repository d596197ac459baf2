"""Faster R-CNN that you can open: ten steps, ten lessons, and the same modules train PASCAL VOC."""

from rcnn_edu.checkpoint import load
from rcnn_edu.config import Config
from rcnn_edu.model import FasterRCNN
from rcnn_edu.version import __version__

__all__ = ["Config", "FasterRCNN", "__version__", "load"]
