"""Slider panels, one module a lesson: thin shells over the drawing functions of `rcnn_edu.draw`."""
