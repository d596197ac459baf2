"""The look of a scene of the shapes dataset: the muted background with its clutter, and the fill of a shape.

Images are Pillow's RGB, and everything in them is drawn from `rng` alone.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

_FINE = 2  # supersampling of the clutter
_COARSE = 8  # pixels of the scene in one of its soft clouds and stains


def background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A muted surface with soft clouds, a texture, grain, and clutter that belongs to no class."""
    dark = rng.random() < 0.25
    base = _rgb(rng.random(), rng.uniform(0.04, 0.22), rng.uniform(0.3, 0.45) if dark else rng.uniform(0.66, 0.9))
    clouds = np.clip(np.array(base) + rng.integers(-20, 21, (5, 6, 3)), 0, 255).astype(np.uint8)
    surface = Image.fromarray(clouds).resize((width // _COARSE, height // _COARSE), Image.Resampling.BICUBIC)
    surface.paste(_near(rng, base), mask=_blobs(rng, *surface.size))
    light, marks = _texture(rng, height, width), np.asarray(_lines(rng, width, height)).astype(np.int16)
    bands = [  # one colour at a time: NumPy is slow at broadcasting along a last axis of three
        np.asarray(band) + light + (marks * tint >> 8)
        for band, tint in zip(
            surface.resize((width, height), Image.Resampling.BILINEAR).split(),
            rng.integers(-40, 41, 3, dtype=np.int16),
            strict=True,
        )
    ]
    return _merge([np.clip(band, 0, 255) for band in bands])


def pattern(rng: np.random.Generator, width: int, height: int) -> tuple[Image.Image, Colour]:
    """The fill of a shape: two related colours in a pattern, lit from the top left; and its rim's darker colour."""
    hue, saturation, value = rng.random(), rng.uniform(0.62, 0.95), rng.uniform(0.72, 1.0)
    first = _rgb(hue, saturation, value)
    second = _rgb(hue + rng.uniform(-0.04, 0.04), saturation * rng.uniform(0.6, 0.85), min(1.0, value * 1.12))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    angle, period = rng.uniform(0, math.pi), rng.uniform(9, 20)
    cos, sin = math.cos(angle) * 2 * math.pi / period, math.sin(angle) * 2 * math.pi / period
    u, v = x * cos + y * sin, y * cos - x * sin
    kind = rng.integers(5)
    if kind == 0:  # stripes
        mix = 0.5 + 3 * np.sin(u)
    elif kind == 1:  # dots
        mix = 3 * (np.cos(u) + np.cos(v)) - 2.2
    elif kind == 2:  # checks
        mix = 0.5 + 6 * np.sin(u) * np.sin(v)
    elif kind == 3:  # one colour flowing into the other
        mix = (u - u.min()) / np.ptp(u)
    else:  # plain
        mix = np.zeros_like(u)
    shade = (1 - 0.12 * x / width) - 0.12 * y / height
    mix = np.clip(mix, 0, 1) * shade
    fill = _merge([shade * a + mix * (b - a) for a, b in zip(first, second, strict=True)])
    return fill, _rgb(hue, min(1.0, saturation * 1.05), value * 0.52)


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.int16]:
    """Brightness `(height, width)` of the surface: grain, light from a side, and streaks, weave, ripples or none."""
    kind, angle = rng.integers(4), rng.uniform(0, 2 * math.pi)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    light: npt.NDArray[np.float32] = (along - along.mean()) * (30 / (height + width))
    if kind == 0:
        streaks = np.convolve(rng.uniform(-9, 9, 2048), (0.25, 0.5, 0.25), mode="same").astype(np.float32)
        light += streaks[(along * 0.6).astype(np.int32) % len(streaks)]
    elif kind == 1:
        light += np.sin(x * 1.6) * 3 + np.sin(y * 1.6) * 3
    elif kind == 2:
        light += np.sin(along * (2 * math.pi / rng.uniform(14, 40))) * 4.5
    grain = np.frombuffer(rng.bytes(height * width), dtype=np.uint8).reshape(height, width)
    light += (grain >> 5) - np.float32(3.5)
    return light.astype(np.int16)


def _blobs(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Mask of a few round stains, in coarse pixels: enlarging them is what makes them soft."""
    mask = Image.new("L", (width * _FINE, height * _FINE))
    draw = ImageDraw.Draw(mask)
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, mask.size).tolist()
        across, down = (rng.uniform(1, 4, 2) * _FINE).tolist()
        draw.ellipse((x - across, y - down, x + across, y + down), fill=210)
    return mask.reduce(_FINE).filter(ImageFilter.BoxBlur(1))


def _lines(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Mask of fine marks that are of no class: long lines, arcs, zigzags and crumbs."""
    mask = Image.new("L", (width * _FINE, height * _FINE))
    draw = ImageDraw.Draw(mask)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(0, mask.size).tolist()
        kind, size, turn, stroke = rng.integers(4), rng.uniform(12, 44), rng.uniform(0, 360), int(rng.integers(2, 7))
        if kind == 0:
            dx, dy = rng.uniform(-320, 320, 2).tolist()
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=255, width=stroke)
        elif kind == 1:
            end = turn + rng.uniform(60, 200)
            draw.arc((x - size, y - size, x + size, y + size), turn, end, fill=255, width=stroke)
        elif kind == 2:
            steps = rng.uniform(6, 18, 5).cumsum().tolist()
            points = [(x + step, y + (size / 3) * (-1) ** index) for index, step in enumerate(steps)]
            draw.line(points, fill=255, width=stroke)
        else:
            for dx, dy in rng.uniform(-size, size, (5, 2)).tolist():
                draw.ellipse((x + dx - 3, y + dy - 3, x + dx + 4, y + dy + 4), fill=255)
    return mask.reduce(_FINE)


def _near(rng: np.random.Generator, base: Colour) -> Colour:
    """A colour near `base`."""
    red, green, blue = np.clip(np.array(base) + rng.integers(-40, 41, 3), 0, 255).tolist()
    return red, green, blue


def _merge(bands: Sequence[npt.NDArray[np.generic]]) -> Image.Image:
    return Image.merge("RGB", [Image.fromarray(band.astype(np.uint8)) for band in bands])


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    """Red, green and blue in 0…255; the hue is in turns and may be outside 0…1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
