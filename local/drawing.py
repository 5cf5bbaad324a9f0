"""Pictures drawn by rule: a style gives the composition, the prompt its palette, its motif and its title.

No model of the world stands behind them, and they don't claim one: they are posters about a prompt, made so that a page
looks as it should before there is a key for a vendor that paints.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

FONTS = Path(__file__).parents[1] / "lib" / "vsl" / "fonts"
OVERSAMPLING = 2
"""Pillow's shapes have hard edges: drawn twice as large and scaled down they are smooth."""
MAX_TITLE_WORDS = 4
Color = tuple[int, int, int]
Field = NDArray[np.floating[Any]]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Palette:
    """Five colours: two of the ground, from dark to light, and three that stand on it."""

    deep: Color
    ground: Color
    light: Color
    accent: Color
    second: Color


def _palette(colors: str) -> Palette:
    deep, ground, light, accent, second = (_rgb(color) for color in colors.split())
    return Palette(deep, ground, light, accent, second)


def _rgb(color: str) -> Color:
    return int(color[0:2], 16), int(color[2:4], 16), int(color[4:6], 16)


PALETTES: dict[str, Palette] = {
    "dusk": _palette("1b1836 4b2d6b f7d6bf ff7a59 f2b84b"),
    "sea": _palette("06283d 1363a0 dff6ff f4a259 47b5c4"),
    "forest": _palette("10291f 2f5d43 f1f0dc e08e45 a3b86c"),
    "ember": _palette("2b0f0e 7a1f1d ffe8d1 f25c3b f5b041"),
    "clay": _palette("3a2418 a8573a f8ece0 d9824b 6b8f86"),
    "mint": _palette("0f3b39 2c8c7f f2fbf6 ff8c69 f4d35e"),
    "ink": _palette("12141c 30364a f4f2ee e4572e 8ea4c8"),
    "blossom": _palette("40203a a64d79 fff1f3 e76f8f f4b860"),
    "night": _palette("070b1f 1d2b64 e8ecff f8d66d 7f9cf5"),
    "meadow": _palette("23391a 6a994e f7f7e8 f2a541 bc4749"),
}
_SUBJECTS: dict[str, str] = {
    "dusk": r"sunset|evening|dusk|dream|love|wine|desert|travel",
    "sea": r"sea|ocean|water|beach|surf|blue|ship|fish|swim|rain|mar|praia",
    "forest": r"forest|tree|camp|hik|wood|leaf|nature|mountain|floresta",
    "ember": r"fire|hot|heat|energy|fast|sport|spice|flame|power|fogo",
    "clay": r"coffee|bread|kitchen|leather|home|house|cook|wood|clay|caf",
    "mint": r"health|clean|fresh|medic|yoga|calm|skin|tea|money|saving|growth",
    "ink": r"book|write|paper|design|office|business|law|news|code|software|data",
    "blossom": r"flower|beauty|fashion|baby|gift|heart|wedding|flor",
    "night": r"night|moon|star|lamp|light|sleep|space|city|robot|future|tech|noite",
    "meadow": r"garden|farm|food|fruit|vegetable|green|bike|dog|cat|plant|jardim",
}


class Canvas:
    """What a style draws on: an image of `size` pixels (oversampled), its palette and its own source of chance."""

    def __init__(self, width: int, height: int, palette: Palette, chance: random.Random) -> None:
        self.width = width * OVERSAMPLING
        self.height = height * OVERSAMPLING
        self.unit = min(self.width, self.height) / 100
        self.palette = palette
        self.chance = chance
        self.image = Image.new("RGB", (self.width, self.height), palette.ground)

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        """Draws on the image as it is now."""
        return ImageDraw.Draw(self.image)

    def gradient(self, top: Color, bottom: Color, *, angle: float = 90.0) -> None:
        """Fill everything from one colour to another; 90 degrees is downwards."""
        across = np.linspace(0, 1, self.width)[None, :] * math.cos(math.radians(angle))
        down = np.linspace(0, 1, self.height)[:, None] * math.sin(math.radians(angle))
        share = across + down
        share = (share - share.min()) / (share.max() - share.min())
        self.image = _mixed(top, bottom, share)

    def glow(self, center: Point, radius: float, color: Color, strength: float) -> None:
        """Light around a point, fading out at `radius`."""
        x, y = np.arange(self.width)[None, :] - center[0], np.arange(self.height)[:, None] - center[1]
        share = np.maximum(1 - np.sqrt(x * x + y * y) / radius, 0) ** 2 * strength
        layer = Image.new("RGB", self.image.size, color)
        self.image.paste(layer, mask=Image.fromarray((share * 255).astype(np.uint8)))

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        x, y = center
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def shaded(self, points: Sequence[Point], top: Color, bottom: Color, *, shadow: float = 0.0) -> None:
        """A polygon with a gradient of its own, and the shadow it throws on what lies below (0: none)."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(list(points), fill=255)
        if shadow:
            small = mask.resize((self.width // 8, self.height // 8))
            soft = small.filter(ImageFilter.GaussianBlur(self.unit * shadow / 8)).resize(mask.size)
            soft = ImageChops.offset(soft, 0, -int(self.unit * shadow))
            black = Image.new("RGB", self.image.size, _mix(self.palette.deep, (0, 0, 0), 0.4))
            self.image.paste(black, mask=soft.point(lambda value: value * 0.45))
        ys = [y for _, y in points]
        low, high = min(ys), max(ys)
        share = np.minimum(np.maximum((np.arange(self.height)[:, None] - low) / max(high - low, 1), 0), 1)
        self.image.paste(_mixed(top, bottom, share.repeat(self.width, axis=1)), mask=mask)

    def grain(self, amount: float) -> None:
        """The texture of paper, so that large areas don't look like plastic."""
        noise = np.random.default_rng(self.chance.getrandbits(32)).normal(
            0, amount, (self.height // 2, self.width // 2, 1)
        )
        noise = noise.repeat(2, axis=0).repeat(2, axis=1)
        pixels = np.asarray(self.image.crop((0, 0, noise.shape[1], noise.shape[0])), dtype=np.float32)
        self.image = Image.fromarray(np.minimum(np.maximum(pixels + noise, 0), 255).astype(np.uint8))

    def hill(self, base: float, height: float, rough: float) -> list[Point]:
        """A smooth horizon from edge to edge: the sum of a few waves, closed along the bottom."""
        waves = [
            (self.chance.uniform(0.6, 1.6) * (n + 1), self.chance.uniform(0, math.tau), 1 / (n + 1) ** rough)
            for n in range(5)
        ]
        step = max(self.width // 240, 1)
        points: list[Point] = []
        for x in range(0, self.width + step, step):
            angle = x / self.width * math.tau
            rise = sum(size * math.sin(speed * angle / 1.4 + phase) for speed, phase, size in waves)
            points.append((x, base - height * rise))
        return [*points, (self.width, self.height), (0, self.height)]


def _horizon(canvas: Canvas) -> None:
    """Hills one behind the other under a low sun."""
    palette, width, height = canvas.palette, canvas.width, canvas.height
    canvas.gradient(_mix(palette.ground, palette.deep, 0.2), palette.light)
    sun = (width * canvas.chance.uniform(0.25, 0.75), height * canvas.chance.uniform(0.34, 0.48))
    canvas.glow(sun, height * 0.8, palette.second, 0.7)
    canvas.disc(sun, canvas.unit * canvas.chance.uniform(9, 14), _mix(palette.second, (255, 255, 255), 0.5))
    layers = 6
    for layer in range(layers):
        near = layer / (layers - 1)
        base = height * (0.52 + 0.42 * near)
        far = _mix(palette.light, palette.accent, 0.35)
        color = _mix(far, palette.deep, 0.12 + 0.88 * near)
        points = canvas.hill(base, canvas.unit * (7 - 3 * near), 1.1)
        canvas.shaded(
            points, _mix(color, palette.second, 0.18 * (1 - near)), _mix(color, palette.light, 0.25 * (1 - near))
        )


def _papercut(canvas: Canvas) -> None:
    """Sheets of coloured paper with holes, stacked around a light."""
    palette, chance = canvas.palette, canvas.chance
    canvas.gradient(_mix(palette.second, palette.light, 0.5), palette.second, angle=60)
    center = (canvas.width * chance.uniform(0.38, 0.62), canvas.height * chance.uniform(0.42, 0.58))
    canvas.disc(center, canvas.unit * 9, palette.light)
    sheets = 6
    phases = [chance.uniform(0, math.tau) for _ in range(4)]
    for sheet in range(sheets):
        share = sheet / (sheets - 1)
        radius = canvas.unit * (17 + 44 * share)
        hole: list[Point] = []
        for step in range(180):
            angle = step / 180 * math.tau
            wobble = sum(math.sin((n + 2) * angle + phase + sheet * 0.55) / (n + 2) for n, phase in enumerate(phases))
            reach = radius * (1 + 0.30 * wobble)
            hole.append((center[0] + reach * 1.25 * math.cos(angle), center[1] + reach * math.sin(angle)))
        color = _mix(_mix(palette.accent, palette.ground, min(share * 1.6, 1)), palette.deep, max(share * 1.5 - 0.6, 0))
        _sheet(canvas, hole, color)


def _sheet(canvas: Canvas, hole: Sequence[Point], color: Color) -> None:
    mask = Image.new("L", canvas.image.size, 255)
    ImageDraw.Draw(mask).polygon(list(hole), fill=0)
    small = mask.resize((canvas.width // 8, canvas.height // 8))
    soft = ImageChops.offset(small.filter(ImageFilter.GaussianBlur(canvas.unit / 4)), 0, int(canvas.unit / 4))
    dark = Image.new("RGB", canvas.image.size, _mix(canvas.palette.deep, (0, 0, 0), 0.5))
    canvas.image.paste(dark, mask=soft.resize(mask.size).point(lambda value: value * 0.55))
    canvas.image.paste(Image.new("RGB", canvas.image.size, color), mask=mask)


def _bauhaus(canvas: Canvas) -> None:
    """A grid of quarter circles, discs and bars."""
    palette, chance = canvas.palette, canvas.chance
    rows = 4
    side = canvas.height / rows
    columns = math.ceil(canvas.width / side)
    left = (canvas.width - columns * side) / 2
    colors = [palette.deep, palette.ground, palette.light, palette.accent, palette.second]
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * side, row * side
            under, over = chance.sample(colors, 2)
            canvas.pen.rectangle((x, y, x + side, y + side), fill=under)
            _tile(canvas, (x, y), side, over, chance.choice(colors))


def _tile(canvas: Canvas, corner: Point, side: float, color: Color, third: Color) -> None:
    (x, y), pen, kind = corner, canvas.pen, canvas.chance.randrange(7)
    if kind <= 2:  # noqa: PLR2004 - three of seven: quarter circles carry the rhythm
        cx, cy = x + side * canvas.chance.randrange(2), y + side * canvas.chance.randrange(2)
        start = 90 * ((cx > x) + 2 * (cy > y))
        start = {0: 0, 90: 90, 180: 270, 270: 180}[start]
        pen.pieslice((cx - side, cy - side, cx + side, cy + side), start, start + 90, fill=color)
        inner = side * 0.45
        pen.pieslice((cx - inner, cy - inner, cx + inner, cy + inner), start, start + 90, fill=third)
    elif kind == 3:  # noqa: PLR2004
        canvas.disc((x + side / 2, y + side / 2), side * 0.36, color)
        canvas.disc((x + side / 2, y + side / 2), side * 0.15, third)
    elif kind == 4:  # noqa: PLR2004
        for bar in range(3):
            pen.rectangle((x, y + side * (2 * bar + 0.5) / 6, x + side, y + side * (2 * bar + 1.5) / 6), fill=color)
    elif kind == 5:  # noqa: PLR2004
        pen.polygon([(x, y + side), (x + side, y + side), (x + side, y)], fill=color)
    else:
        pen.pieslice((x, y - side / 2, x + side, y + side / 2), 0, 180, fill=color)
        pen.pieslice((x, y + side / 2, x + side, y + side * 1.5), 180, 360, fill=third)


def _aurora(canvas: Canvas) -> None:
    """Large soft lights flowing into one another."""
    palette, chance = canvas.palette, canvas.chance
    canvas.gradient(palette.deep, palette.ground, angle=chance.uniform(30, 150))
    for color in (palette.accent, palette.second, palette.ground, palette.light, palette.accent):
        center = (canvas.width * chance.uniform(0, 1), canvas.height * chance.uniform(0.05, 0.95))
        canvas.glow(center, canvas.width * chance.uniform(0.32, 0.6), color, chance.uniform(0.55, 0.95))
    small = canvas.image.resize((canvas.width // 8, canvas.height // 8))
    canvas.image = small.filter(ImageFilter.GaussianBlur(canvas.unit / 2)).resize(
        canvas.image.size, Image.Resampling.BICUBIC
    )
    canvas.grain(4)


def _halftone(canvas: Canvas) -> None:
    """A printed dot screen of a light and its shadow."""
    palette, chance = canvas.palette, canvas.chance
    canvas.image.paste(palette.light, (0, 0, canvas.width, canvas.height))
    light = (canvas.width * chance.uniform(0.25, 0.75), canvas.height * chance.uniform(0.25, 0.6))
    canvas.disc(light, canvas.unit * 26, palette.second)
    step, turn = canvas.unit * 2.3, math.radians(chance.choice((15, 30, 45)))
    reach = int((canvas.width + canvas.height) / step)
    bend, phase = chance.uniform(1.5, 3), chance.uniform(0, math.tau)
    for i in range(-reach // 2, reach // 2):
        for j in range(-reach // 2, reach // 2):
            x = canvas.width / 2 + (i * math.cos(turn) - j * math.sin(turn)) * step
            y = canvas.height / 2 + (i * math.sin(turn) + j * math.cos(turn)) * step
            if not (-step < x < canvas.width + step and -step < y < canvas.height + step):
                continue
            distance = math.hypot(x - light[0], y - light[1]) / canvas.height
            wave = 0.5 + 0.5 * math.sin(bend * math.tau * distance + phase)
            tone = min(max(0.15 + 0.75 * y / canvas.height * wave + 0.2 * (distance - 0.35), 0), 1)
            canvas.disc((x, y), step * 0.68 * math.sqrt(tone), palette.deep if tone > 0.45 else palette.ground)  # noqa: PLR2004


def _contour(canvas: Canvas) -> None:
    """The lines of a map of heights, with one summit marked."""
    palette, chance = canvas.palette, canvas.chance
    x, y = np.linspace(-1.6, 1.6, canvas.width // 2)[None, :], np.linspace(-0.9, 0.9, canvas.height // 2)[:, None]
    ground: Field = np.zeros((canvas.height // 2, canvas.width // 2))
    peaks = [(chance.uniform(-1.4, 1.4), chance.uniform(-0.8, 0.8), chance.uniform(0.25, 0.6)) for _ in range(7)]
    for px, py, spread in peaks:
        ground += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spread**2))
    ground = (ground - ground.min()) / (ground.max() - ground.min())
    level = ground * 16
    canvas.image = _mixed(palette.deep, palette.ground, ground).resize(canvas.image.size, Image.Resampling.BICUBIC)
    near = np.abs(level - np.round(level)) / (_steepness(level) + 1e-6)
    for width, color, chosen in (
        (1.0, palette.second, near < 0.9),  # noqa: PLR2004 - pixels
        (1.6, palette.light, (near < 1.5) & (np.round(level) % 4 == 0)),  # noqa: PLR2004 - every fourth is bold
    ):
        mask = Image.fromarray((chosen * 255).astype(np.uint8)).resize(canvas.image.size, Image.Resampling.BICUBIC)
        mask = mask.filter(ImageFilter.GaussianBlur(width))
        canvas.image.paste(Image.new("RGB", canvas.image.size, color), mask=mask)
    row, column = divmod(int(ground.argmax()), canvas.width // 2)
    canvas.disc((column * 2, row * 2), canvas.unit * 1.8, palette.light)
    canvas.disc((column * 2, row * 2), canvas.unit * 1.1, palette.accent)


def _steepness(level: Field) -> Field:
    """How much the level changes from pixel to pixel."""
    slope: Field = np.zeros_like(level)
    slope[:-1, :-1] = np.hypot(level[1:, :-1] - level[:-1, :-1], level[:-1, 1:] - level[:-1, :-1])
    return slope


def _skyline(canvas: Canvas) -> None:
    """A city at dusk, three rows deep, with lit windows."""
    palette, chance, unit = canvas.palette, canvas.chance, canvas.unit
    canvas.gradient(palette.deep, _mix(palette.accent, palette.light, 0.45))
    moon = (canvas.width * chance.uniform(0.2, 0.8), canvas.height * 0.28)
    canvas.glow(moon, unit * 55, palette.second, 0.55)
    canvas.disc(moon, unit * 8, _mix(palette.second, (255, 255, 255), 0.55))
    for row in range(3):
        color = _mix(_mix(palette.ground, palette.accent, 0.35), palette.deep, row / 2)
        x = -unit * chance.uniform(0, 6)
        while x < canvas.width:
            width = unit * chance.uniform(7, 14)
            top = canvas.height * chance.uniform(0.42 + 0.13 * row, 0.66 + 0.13 * row)
            _building(canvas, (x, top, x + width, canvas.height), color, lit=row > 0)
            x += width + (unit * chance.uniform(0.5, 4) if row == 2 else 0)  # noqa: PLR2004 - the nearest row has gaps


def _building(canvas: Canvas, box: tuple[float, float, float, float], color: Color, *, lit: bool) -> None:
    left, top, right, bottom = box
    unit, chance, pen = canvas.unit, canvas.chance, canvas.pen
    pen.rectangle(box, fill=color)
    if chance.random() < 0.3:  # noqa: PLR2004
        pen.rectangle(
            ((left + right) / 2 - unit * 0.2, top - unit * 6, (left + right) / 2 + unit * 0.2, top), fill=color
        )
    y = top + unit * 1.6
    while lit and y < bottom:
        x = left + unit * 1.1
        while x + unit < right - unit * 0.6:
            if chance.random() < 0.38:  # noqa: PLR2004
                window = _mix(canvas.palette.second, canvas.palette.light, chance.random() * 0.6)
                pen.rectangle((x, y, x + unit * 0.9, y + unit * 1.4), fill=_mix(window, color, chance.random() * 0.5))
            x += unit * 1.9
        y += unit * 2.8


def _facets(canvas: Canvas) -> None:
    """A folded sheet of triangles, lit from one side."""
    palette, chance = canvas.palette, canvas.chance
    rows, columns = 7, 12
    points = [
        [
            (
                canvas.width * (column + chance.uniform(-0.36, 0.36)) / columns
                if 0 < column < columns
                else canvas.width * column / columns,
                canvas.height * (row + chance.uniform(-0.36, 0.36)) / rows
                if 0 < row < rows
                else canvas.height * row / rows,
            )
            for column in range(columns + 1)
        ]
        for row in range(rows + 1)
    ]
    light = (canvas.width * chance.uniform(0.2, 0.8), canvas.height * chance.uniform(0.1, 0.5))
    for row in range(rows):
        for column in range(columns):
            a, b, c, d = (
                points[row][column],
                points[row][column + 1],
                points[row + 1][column],
                points[row + 1][column + 1],
            )
            for triangle in ((a, b, c), (b, d, c)) if chance.random() < 0.5 else ((a, b, d), (a, d, c)):  # noqa: PLR2004
                x, y = sum(p[0] for p in triangle) / 3, sum(p[1] for p in triangle) / 3
                shade = min(
                    math.hypot(x - light[0], y - light[1]) / canvas.width * 1.5 + chance.uniform(-0.09, 0.09), 1
                )
                color = _blend(
                    (palette.light, palette.second, palette.accent, palette.ground, palette.deep), max(shade, 0)
                )
                canvas.pen.polygon(triangle, fill=color, outline=color)


def _botanical(canvas: Canvas) -> None:
    """Branches with leaves before a pale ground and a sun."""
    palette, chance, unit = canvas.palette, canvas.chance, canvas.unit
    canvas.image.paste(palette.light, (0, 0, canvas.width, canvas.height))
    center = (canvas.width * chance.uniform(0.35, 0.65), canvas.height * 0.46)
    canvas.disc(center, unit * 30, _mix(palette.second, palette.light, 0.25))
    tones = [palette.ground, palette.deep, _mix(palette.ground, palette.second, 0.4), palette.accent]
    for stem in range(9):
        x = canvas.width * (stem + chance.uniform(0.2, 0.8)) / 9
        _branch(
            canvas,
            (x, canvas.height * 1.02),
            chance.uniform(-0.35, 0.35),
            unit * chance.uniform(45, 82),
            chance.choice(tones),
        )


def _branch(canvas: Canvas, foot: Point, lean: float, length: float, color: Color) -> None:
    unit, chance = canvas.unit, canvas.chance
    bend, pairs = chance.uniform(-0.5, 0.5), chance.randrange(6, 10)
    size, slim = unit * chance.uniform(8, 13), chance.uniform(0.2, 0.42)
    spine: list[Point] = []
    for step in range(41):
        share = step / 40
        angle = lean + bend * share
        spine.append((foot[0] + math.sin(angle) * length * share, foot[1] - math.cos(angle) * length * share))
    canvas.pen.line(spine, fill=color, width=max(int(unit * 0.5), 1), joint="curve")
    for pair in range(pairs + 1):
        x, y = spine[8 + int(32 * pair / pairs)]
        angle, shrink = lean + bend * pair / pairs, 1 - 0.5 * pair / pairs
        for side in (-1, 1) if pair < pairs else (0,):
            _leaf(canvas, (x, y), angle + side * 0.95, size * shrink, slim, color)


def _leaf(canvas: Canvas, foot: Point, angle: float, length: float, slim: float, color: Color) -> None:
    edge: list[Point] = []
    for step in range(25):
        share = step / 12 if step <= 12 else (24 - step) / 12  # noqa: PLR2004 - up one side, down the other
        out = math.sin(share * math.pi) * length * slim * (1 if step <= 12 else -1)  # noqa: PLR2004
        along = share * length
        edge.append(
            (
                foot[0] + math.sin(angle) * along + math.cos(angle) * out,
                foot[1] - math.cos(angle) * along + math.sin(angle) * out,
            )
        )
    canvas.pen.polygon(edge, fill=color)
    tip = (foot[0] + math.sin(angle) * length * 0.9, foot[1] - math.cos(angle) * length * 0.9)
    canvas.pen.line([foot, tip], fill=_mix(color, canvas.palette.light, 0.35), width=max(int(canvas.unit * 0.2), 1))


def _orbit(canvas: Canvas) -> None:
    """Planets on their rings among stars."""
    palette, chance, unit = canvas.palette, canvas.chance, canvas.unit
    canvas.gradient(palette.deep, _mix(palette.deep, palette.ground, 0.8), angle=chance.uniform(20, 160))
    center = (canvas.width * chance.uniform(0.35, 0.65), canvas.height * chance.uniform(0.44, 0.56))
    for _ in range(150):
        spot = (canvas.width * chance.random(), canvas.height * chance.random())
        canvas.disc(spot, unit * chance.uniform(0.08, 0.28), _mix(palette.light, palette.deep, chance.random() * 0.7))
    canvas.glow(center, unit * 50, palette.accent, 0.6)
    canvas.disc(center, unit * 11, palette.accent)
    canvas.disc((center[0] - unit * 2.5, center[1] - unit * 2.5), unit * 7.5, _mix(palette.accent, palette.second, 0.4))
    tilt = chance.uniform(0.34, 0.5)
    for ring in range(5):
        radius = unit * (21 + ring * 15)
        box = (center[0] - radius, center[1] - radius * tilt, center[0] + radius, center[1] + radius * tilt)
        canvas.pen.ellipse(box, outline=_mix(palette.light, palette.ground, 0.45), width=max(int(unit * 0.22), 1))
        angle = chance.uniform(0, math.tau)
        planet = (center[0] + radius * math.cos(angle), center[1] + radius * tilt * math.sin(angle))
        size, color = unit * chance.uniform(1.8, 4.6), chance.choice((palette.second, palette.light, palette.ground))
        canvas.disc(planet, size, _mix(color, palette.deep, 0.25))
        canvas.disc((planet[0] - size * 0.18, planet[1] - size * 0.18), size * 0.78, color)


def _ribbon(canvas: Canvas) -> None:
    """Bands of colour in one long swing."""
    palette, chance = canvas.palette, canvas.chance
    canvas.gradient(palette.light, _mix(palette.light, palette.second, 0.35), angle=70)
    colors = [palette.deep, palette.ground, palette.accent, palette.second, _mix(palette.accent, palette.light, 0.5)]
    phase, swing, band = chance.uniform(0, math.tau), canvas.height * chance.uniform(0.16, 0.26), canvas.unit * 7.5
    for number in range(8):
        color = colors[number % len(colors)]
        top, under = _band(canvas, phase, swing, band, number)
        canvas.shaded([*top, *reversed(under)], color, _mix(color, palette.deep, 0.22), shadow=0.9)


def _band(canvas: Canvas, phase: float, swing: float, band: float, number: int) -> tuple[list[Point], list[Point]]:
    top: list[Point] = []
    under: list[Point] = []
    for step in range(121):
        share = step / 120
        squeeze = 0.55 + 0.75 * math.sin(math.pi * (share + 0.12 * math.sin(phase))) ** 2
        middle = canvas.height * (0.86 - 0.62 * share) + swing * math.sin(math.tau * share * 0.9 + phase)
        y = middle + (number - 4) * band * squeeze
        top.append((canvas.width * share, y))
        under.append((canvas.width * share, y + band * squeeze * 1.02))
    return top, under


def _waves(canvas: Canvas) -> None:
    """Scales of concentric arcs, row over row, with a disc behind them."""
    palette, chance, unit = canvas.palette, canvas.chance, canvas.unit
    canvas.gradient(_mix(palette.light, palette.second, 0.2), palette.light)
    canvas.disc((canvas.width * chance.uniform(0.25, 0.75), canvas.height * 0.36), unit * 24, palette.accent)
    radius, row, y = unit * chance.uniform(9, 13), 0, canvas.height * 0.5
    while y < canvas.height + radius * 2:
        x = -radius * (row % 2)
        while x < canvas.width + radius:
            share = (y - canvas.height * 0.5) / (canvas.height * 0.6)
            under = _mix(palette.ground, palette.deep, min(max(share + chance.uniform(-0.12, 0.12), 0), 1))
            for ring in range(5):
                color = under if ring % 2 == 0 else _mix(palette.light, under, 0.15)
                canvas.disc((x, y), radius * (1 - ring * 0.2), color)
            x += radius * 2
        y += radius * 0.5
        row += 1


def _stilllife(canvas: Canvas) -> None:
    """A table with a vase, fruit and a window's light: plain shapes, long shadows."""
    palette, chance, unit = canvas.palette, canvas.chance, canvas.unit
    canvas.gradient(_mix(palette.light, palette.second, 0.25), palette.light, angle=35)
    table = canvas.height * 0.7
    left = canvas.width * chance.uniform(0.05, 0.2)
    beam = [(left, 0), (left + unit * 48, 0), (left + unit * 88, table), (left + unit * 40, table)]
    canvas.pen.polygon(beam, fill=_mix(palette.light, (255, 255, 255), 0.55))
    canvas.shaded(
        [(0, table), (canvas.width, table), (canvas.width, canvas.height), (0, canvas.height)],
        palette.accent,
        _mix(palette.accent, palette.deep, 0.45),
    )
    slots = [canvas.width * share for share in (0.24, 0.42, 0.6, 0.78)]
    chance.shuffle(slots)
    _vase(canvas, (slots[0], table + unit * 8), unit * chance.uniform(34, 44), palette.ground)
    _vase(canvas, (slots[1], table + unit * 13), unit * chance.uniform(16, 24), palette.deep)
    for slot, color in zip(slots[2:], (palette.second, palette.accent), strict=True):
        size = unit * chance.uniform(7, 9.5)
        foot = table + unit * chance.uniform(12, 16)
        _shadow(canvas, (slot, foot), size)
        canvas.disc((slot, foot - size), size, _mix(color, palette.deep, 0.25))
        canvas.disc((slot - size * 0.12, foot - size * 1.1), size * 0.86, color)
        canvas.disc((slot - size * 0.35, foot - size * 1.35), size * 0.22, _mix(color, palette.light, 0.6))


def _vase(canvas: Canvas, foot: Point, height: float, color: Color) -> None:
    (x, y), chance = foot, canvas.chance
    widths = [
        0.2,
        chance.uniform(0.26, 0.36),
        chance.uniform(0.3, 0.42),
        chance.uniform(0.16, 0.26),
        0.1,
        chance.uniform(0.12, 0.2),
    ]
    _shadow(canvas, foot, height * 0.3)
    sides: list[tuple[float, float]] = []
    for step in range(51):
        share = step / 50 * (len(widths) - 1)
        low = min(int(share), len(widths) - 2)
        smooth = (1 - math.cos((share - low) * math.pi)) / 2
        sides.append((height * (widths[low] * (1 - smooth) + widths[low + 1] * smooth), y - height * step / 50))
    for width, tone in ((1.0, _mix(color, canvas.palette.deep, 0.35)), (0.84, color)):
        shift = -(1 - width) * height * 0.12
        outline = [(x + shift + half * width, level) for half, level in sides]
        outline += [(x + shift - half * width, level) for half, level in reversed(sides)]
        canvas.pen.polygon(outline, fill=tone)


def _shadow(canvas: Canvas, foot: Point, size: float) -> None:
    x, y = foot
    color = _mix(canvas.palette.accent, canvas.palette.deep, 0.6)
    canvas.pen.ellipse((x - size * 0.8, y - size * 0.16, x + size * 2.6, y + size * 0.2), fill=color)


STYLES: dict[str, Callable[[Canvas], None]] = {
    "horizon": _horizon,
    "papercut": _papercut,
    "bauhaus": _bauhaus,
    "aurora": _aurora,
    "halftone": _halftone,
    "contour": _contour,
    "skyline": _skyline,
    "facets": _facets,
    "botanical": _botanical,
    "orbit": _orbit,
    "ribbon": _ribbon,
    "waves": _waves,
    "stilllife": _stilllife,
}


def draw(prompt: str, width: int, height: int, seed: int) -> Image.Image:
    """The picture of a prompt, `width` x `height` pixels: the same for the same arguments.

    A style's name anywhere in the prompt chooses that style, words of the subject the palette; what they leave open,
    chance decides.
    """
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    chance = random.Random(digest)  # noqa: S311 - for looks
    lower = prompt.lower()
    named = next((name for name in STYLES if re.search(rf"\b{name}\b", lower)), None)
    style = named or chance.choice(list(STYLES))
    canvas = Canvas(width, height, _varied(_palette_for(lower, chance), chance), chance)
    STYLES[style](canvas)
    picture = canvas.image.resize((width, height), Image.Resampling.BOX)
    _set_title(picture, title_of(prompt), canvas.palette)
    return picture


def _palette_for(prompt: str, chance: random.Random) -> Palette:
    fitting = [name for name, words in _SUBJECTS.items() if re.search(rf"\b(?:{words})", prompt)]
    return PALETTES[chance.choice(fitting or list(PALETTES))]


def _varied(palette: Palette, chance: random.Random) -> Palette:
    """The palette with its hues turned a little, all by the same angle: no two prompts look alike."""
    turn = chance.uniform(-0.025, 0.025)

    def turned(color: Color) -> Color:
        hue, light, saturation = colorsys.rgb_to_hls(*(part / 255 for part in color))
        red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, light, saturation)
        return round(red * 255), round(green * 255), round(blue * 255)

    return Palette(*(turned(getattr(palette, name)) for name in Palette.__slots__))


def title_of(prompt: str) -> str:
    """The first words of the prompt that carry its subject."""
    clause = re.split(r"[,.;:\n(]", prompt.strip(), maxsplit=1)[0]
    words = re.findall(r"[^\W_][\w'\u2019-]*", clause)
    telling = [word for word in words if word.lower() not in _FILLERS and word.lower() not in STYLES]
    title = " ".join(telling[:MAX_TITLE_WORDS])
    return title[:1].upper() + title[1:]


_FILLERS = frozenset(
    (
        *("a", "an", "the", "of", "in", "on", "at", "by", "for", "with", "and", "or", "to", "from", "over", "under"),
        *("is", "are", "this", "that", "style", "picture", "image", "photo", "illustration", "drawing", "painting"),
        *("um", "uma", "o", "os", "as", "de", "do", "da", "em", "no", "na", "com", "para", "e"),
    )
)


def _set_title(picture: Image.Image, title: str, palette: Palette) -> None:
    """Small, at the lower left, on a plate of the palette's dark: legible on every composition."""
    if not title:
        return
    unit = min(picture.size) / 100
    pen = ImageDraw.Draw(picture)
    size = unit * 4.2
    font = _font(size)
    while font.getlength(title) > picture.width - unit * 16 and size > unit * 2:
        size *= 0.9
        font = _font(size)
    x, y = unit * 5, picture.height - unit * 5
    left, top, right, bottom = pen.textbbox((x + unit * 2, y - unit * 2.4), title, font=font, anchor="ls")
    plate = (left - unit * 2, top - unit * 1.7, right + unit * 2, bottom + unit * 1.7)
    pen.rectangle(plate, fill=palette.deep)
    pen.rectangle((plate[0], plate[1], plate[0] + unit * 0.5, plate[3]), fill=palette.accent)
    pen.text((x + unit * 2, y - unit * 2.4), title, font=font, anchor="ls", fill=palette.light)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS / "InterDisplay-SemiBold.otf", round(size))


def _mix(one: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _blend(colors: Sequence[Color], share: float) -> Color:
    place = share * (len(colors) - 1)
    low = min(int(place), len(colors) - 2)
    return _mix(colors[low], colors[low + 1], place - low)


def _mixed(one: Color, other: Color, share: Field) -> Image.Image:
    pixels = np.array(one) + (np.array(other) - np.array(one)) * share[..., None]
    return Image.fromarray(pixels.astype(np.uint8))
