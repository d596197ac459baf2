"""The one slider panel of the lessons: sliders, a picture, and a caption that says what the picture shows.

Live in JupyterLab; where there is no kernel (GitHub, the documentation) the same cell shows the stored picture, and the
caption is text that `pytest --nbval` compares word for word.

An `Explorer` is a thin shell over a pure drawing function. The figure comes with what never moves (a photo, the axes
of a plot) and is rendered once. The function then adds what moves to the figure's axes and returns the caption; at the
next move the explorer takes those artists away again. A function that changes limits, titles or ticks changes what was
rendered already, so it would not show: write such text with `axes.text`.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from rcnn_edu.draw import KEPT

PICTURE_LIMIT = 150_000
"""Bytes of a picture: it is stored in the notebook."""

PRINTED_WIDTH = 96
"""Characters of output that fit in a line of JupyterLab at 1280 pixels; it breaks longer lines in mid-word."""

_QUALITIES = (88, 80, 70, 55, 40)
_CAPTION = "font: 14px/1.5 sans-serif; white-space: pre-wrap; margin: 4px 0; padding-left: 10px; border-left: 4px solid"


class Explorer(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Controls by name, one figure, and `draw(**values)`, which draws for those values and returns the caption.

    figure: made without pyplot, with everything drawn that no control changes.
    draw: adds artists to the figure's axes. Its caption is plain text, says in words and numbers what is to be seen,
    and prints at most four digits, so that every machine writes the same.
    controls: widgets with a `value`, named as `draw`'s arguments; `slider`, `interval`, `steps`, `choice` and `switch`
    make them. Without any it is a still picture with a checked caption.
    """

    text: str
    """The caption."""

    def __init__(self, figure: Figure, draw: Callable[..., str], **controls: widgets.Widget) -> None:
        self._draw, self._figure, self._controls = draw, figure, controls
        canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
        canvas.draw()
        self._canvas, self._background = canvas, canvas.copy_from_bbox(figure.bbox)
        self._fixed = set(_artists(figure))
        self._fixed_containers = [len(axes.containers) for axes in figure.axes]
        self._held = False
        self._image = widgets.Image(format="jpeg", layout=widgets.Layout(align_self="flex-start", max_width="100%"))
        self._caption = widgets.HTML()
        rows = [_with_play(control) for control in controls.values()]
        super().__init__([*rows, self._image, self._caption])
        for control in controls.values():
            control.observe(self._update, "value")
        self._update()

    @property
    def controls(self) -> dict[str, widgets.Widget]:
        """The widgets by the names that `draw` and `at` know them by."""
        return dict(self._controls)

    @property
    def picture(self) -> bytes:
        """The drawn frame, JPEG."""
        return bytes(self._image.value)

    def at(self, **values: Any) -> str:
        """The caption with these values, in lines to print: moves the real controls, and puts them back.

        Raises `ValueError` for a control that is not there, and a value that the control cannot take.
        """
        if unknown := sorted(set(values) - set(self._controls)):
            raise ValueError(f"no control called {', '.join(unknown)}; there are: {', '.join(self._controls)}")
        before = {name: self._controls[name].value for name in values}
        try:
            self._move(values)
            for name, value in values.items():
                if self._controls[name].value != value:
                    raise ValueError(f"{name} cannot be {value}; it went to {self._controls[name].value}")
            return "\n".join(textwrap.fill(line, PRINTED_WIDTH) for line in self.text.splitlines())
        finally:
            self._move(before)

    def _move(self, values: dict[str, Any]) -> None:
        """Set several controls, and draw once: what lies between two settings need not make sense."""
        self._held = True
        try:
            for name, value in values.items():
                self._controls[name].value = value
        finally:
            self._held = False
        self._update()

    def _update(self, _change: object = None) -> None:
        if self._held:
            return
        try:
            self._redraw()
        except Exception as error:
            # JupyterLab swallows what a callback raises, so the reader must find it in the caption.
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.text = f"{type(error).__name__}: {error} (in {last.name}, line {last.lineno})"
            self._show_caption("#D00000")
            raise

    def _redraw(self) -> None:
        for artist in self._moving():
            artist.remove()
        for axes, fixed in zip(self._figure.axes, self._fixed_containers, strict=True):
            del axes.containers[fixed:]  # bars and error bars stay listed there when their artists are gone
        self.text = self._draw(**{name: control.value for name, control in self._controls.items()})
        self._canvas.restore_region(self._background)
        for artist in sorted(self._moving(), key=lambda artist: artist.zorder):
            self._figure.draw_artist(artist)
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        self._image.value = _jpeg(pixels)
        self._show_caption(KEPT)

    def _moving(self) -> list[Artist]:
        return [artist for artist in _artists(self._figure) if artist not in self._fixed]

    def _show_caption(self, color: str) -> None:
        self._caption.value = f'<div role="status" style="{_CAPTION} {color}">{html.escape(self.text)}</div>'

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        bundle["text/plain"] = self.text
        bundle["image/jpeg"] = base64.b64encode(self.picture).decode()
        return bundle


def slider(name: str, value: float, smallest: float, largest: float, step: float | None = None) -> widgets.Widget:
    """A slider labelled `name`: whole numbers if `value` is one, else to the digits of `step`."""
    look = {"description": name, "style": {"description_width": "170px"}, "layout": widgets.Layout(width="560px")}
    if isinstance(value, int):
        return widgets.IntSlider(value, int(smallest), int(largest), int(step or 1), **look)
    step = step or (largest - smallest) / 100
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    return widgets.FloatSlider(value=value, min=smallest, max=largest, step=step, readout_format=f".{digits}f", **look)


def interval(name: str, value: tuple[int, int], smallest: int, largest: int) -> widgets.Widget:
    """A slider labelled `name` for two whole numbers, the first at most the second, that can be dragged together."""
    look = {"description": name, "style": {"description_width": "170px"}, "layout": widgets.Layout(width="560px")}
    return widgets.IntRangeSlider(value=value, min=smallest, max=largest, **look)


def steps(name: str, count: int, value: int = 0, milliseconds: int = 600) -> widgets.Widget:
    """A slider 0..`count` with a play button beside it, for watching something one decision at a time."""
    control = slider(name, value, 0, count)
    control.play = widgets.Play(value=value, min=0, max=count, interval=milliseconds)
    control.play_link = widgets.jslink((control.play, "value"), (control, "value"))
    return control


def choice(name: str, value: Any, options: Any) -> widgets.Widget:
    """A menu labelled `name`, of values or of (text, value) pairs."""
    look = {"description": name, "style": {"description_width": "170px"}, "layout": widgets.Layout(width="560px")}
    return widgets.Dropdown(options=options, value=value, **look)


def switch(name: str, value: bool) -> widgets.Widget:
    """A box to tick."""
    look = {"description": name, "style": {"description_width": "170px"}, "layout": widgets.Layout(width="560px")}
    return widgets.Checkbox(value, **look)


def _with_play(control: widgets.Widget) -> widgets.Widget:
    play = getattr(control, "play", None)
    return control if play is None else widgets.HBox([control, play])


def _artists(figure: Figure) -> list[Artist]:
    """What lies on the figure and on its axes, not the axes themselves."""
    loose = [artist for artist in figure.get_children() if artist not in figure.axes]
    return loose + [artist for axes in figure.axes for artist in axes.get_children()]


def _jpeg(pixels: Any) -> bytes:
    """The frame as JPEG of at most `PICTURE_LIMIT` bytes; only one full of detail gets less than the best quality."""
    frame = Image.fromarray(pixels)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        frame.save(buffer, format="jpeg", quality=quality, subsampling=0 if quality > 80 else 2)
        if buffer.tell() <= PICTURE_LIMIT:
            return buffer.getvalue()
    raise ValueError(
        f"a picture of {frame.width}x{frame.height} pixels does not fit {PICTURE_LIMIT} bytes; draw it smaller"
    )
