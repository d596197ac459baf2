"""Data: the VOC reader, the drawn shapes, and the sample photos of the lessons."""

from .problems import Problem
from .samples import SAMPLES, Sample, sample
from .shapes import SHAPE_CLASSES, render_scene, write_shapes
from .voc import VOC_CLASSES, Annotation, VOCDataset

__all__ = [
    "SAMPLES",
    "SHAPE_CLASSES",
    "VOC_CLASSES",
    "Annotation",
    "Problem",
    "Sample",
    "VOCDataset",
    "render_scene",
    "sample",
    "write_shapes",
]
