"""One annotation file of PASCAL VOC: what it says, checked, in the library's box convention.

    G       objects of the image
    boxes   x1, y1, x2, y2 in pixels, 0-based, continuous, half-open

VOC counts pixels from 1 and includes both ends, so `(xmin, ymin, xmax, ymax)` becomes `(xmin - 1, ymin - 1,
xmax, ymax)`: here, once, and nowhere else. Annotation tools that count from 0 write boxes that then reach over the
image's edge by up to one pixel. That is a convention and not a mistake, so such boxes are clipped; anything further out
is reported. A box with xmin = xmax is what a stray click leaves behind: it counts as empty.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rcnn_edu.data.problems import Problem, shown

_COORDINATES = ("xmin", "ymin", "xmax", "ymax")
_OVERSHOOT = 1.0  # pixels a box may reach over the image's edge before it is an error rather than a convention
_SLIVER = 0.1  # pixels; a box with no more than this inside the image is outside (and would be empty in float32)


class BadAnnotation(Exception):
    """The annotation file as a whole cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Objects:
    """The usable objects of one image, and what was wrong with the others."""

    boxes: list[tuple[float, float, float, float]]
    """x1, y1, x2, y2 in pixels, inside the image, x1 < x2 and y1 < y2."""
    labels: list[int]
    """1…C in the order of the class list."""
    difficult: list[bool]
    problems: list[Problem]
    lost_boxes: int
    """Objects of known classes that were left out because of their boxes: they are somewhere in the image."""


def read_xml(path: Path) -> Element:
    """The root element `<annotation>` of an annotation file.

    Raises `BadAnnotation` if the file is missing, is not well-formed XML, is not a VOC annotation, or declares
    entities (defusedxml refuses those: a few bytes of them can fill the memory or read other files).
    """
    try:
        root: Element = fromstring(path.read_bytes())
    except FileNotFoundError:
        raise BadAnnotation("no such annotation file; add it, or take the id out of the list") from None
    except OSError as error:
        raise BadAnnotation(f"cannot be read ({error.strerror}); check the file and its permissions") from error
    except DefusedXmlException as error:
        raise BadAnnotation("refused: its XML declares entities, which is unsafe; remove its DOCTYPE") from error
    except (ParseError, ValueError, LookupError) as error:
        raise BadAnnotation(f"not well-formed XML ({error}); mend or export the file again") from error
    if root.tag != "annotation":
        raise BadAnnotation(f"not a VOC annotation: its root element is {shown(root.tag)}, not 'annotation'")
    return root


def xml_size(root: Element) -> tuple[int, int] | None:
    """`(width, height)` as the annotation claims it, or None where it makes no usable claim (many tools write 0)."""
    try:
        width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None
    usable = math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1
    return (round(width), round(height)) if usable else None


def class_name(element: Element) -> str:
    """The name of an object's class, with stray whitespace removed; empty when there is none."""
    return " ".join((element.findtext("name") or "").split())


def read_objects(root: Element, path: Path, size: tuple[int, int], classes: Sequence[str]) -> Objects:
    """All objects of one annotation, difficult ones too, that lie in an image of `size` (width, height) pixels."""
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    difficult: list[bool] = []
    problems: list[Problem] = []
    lost = 0
    for number, element in enumerate(root.findall("object"), start=1):
        name = class_name(element)
        where = f"object {number} {shown(name)}"
        if name not in classes:
            problems.append(Problem(str(path), where, _unknown_class(name, classes)))
            continue
        box = _read_box(element, size)
        if isinstance(box, str):
            lost += 1
            problems.append(Problem(str(path), where, box))
            continue
        boxes.append(box)
        labels.append(classes.index(name) + 1)
        difficult.append(_flag(element, "difficult"))
    return Objects(boxes, labels, difficult, problems, lost)


def _read_box(element: Element, size: tuple[int, int]) -> tuple[float, float, float, float] | str:
    """The box in half-open pixels, clipped to the image; or, as text, what is wrong with it."""
    bounds = element.find("bndbox")
    if bounds is None:
        return "has no <bndbox>; draw a box, or remove the object"
    values = []
    for key in _COORDINATES:
        text = (bounds.findtext(key) or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = f"is {shown(text)}, not a number" if text else "is missing"
            return f"{key} {what}; write pixels, as in <{key}>48</{key}>"
        values.append(value)
    xmin, ymin, xmax, ymax = values
    box = f"box {', '.join(f'{key} {value:g}' for key, value in zip(_COORDINATES, values, strict=True))}"
    if xmax < xmin or ymax < ymin:
        return f"{box} is inverted; swap the ends, or remove the object"
    if xmax == xmin or ymax == ymin:
        return f"{box} is empty; draw it again, or remove the object"
    width, height = size
    outside = f"{box} leaves the image of {width}x{height} pixels; clip or redraw the box"
    x1, y1, x2, y2 = xmin - 1, ymin - 1, xmax, ymax
    if min(x1, y1) < -_OVERSHOOT or x2 > width + _OVERSHOOT or y2 > height + _OVERSHOOT:
        return outside
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return (x1, y1, x2, y2) if x2 - x1 > _SLIVER and y2 - y1 > _SLIVER else outside


def _flag(element: Element, name: str) -> bool:
    """VOC writes 0 or 1; some tools write words, or leave the element out, which means no."""
    return (element.findtext(name) or "").strip().lower() in ("1", "1.0", "true", "yes")


def _unknown_class(name: str, classes: Sequence[str]) -> str:
    if not name:
        return "has no class name; fill in its <name>"
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in classes], n=1)
    meant = f" (did you mean {shown(next(known for known in classes if known.lower() == close[0]))}?)" if close else ""
    return f"not one of the {len(classes)} classes{meant}; rename it, or see --classes and --discover-classes"
