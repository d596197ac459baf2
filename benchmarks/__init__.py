"""Measurements of rcnn_edu against other implementations; see README.md in this folder."""
