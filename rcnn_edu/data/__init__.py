"""Data: the VOC reader, the drawn shapes, and the sample photos of the lessons."""

from rcnn_edu.data.problems import Problem
from rcnn_edu.data.samples import SAMPLES, Sample, sample
from rcnn_edu.data.shapes import SHAPE_CLASSES, render_scene, write_shapes
from rcnn_edu.data.voc import VOC_CLASSES, Annotation, VOCDataset

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
