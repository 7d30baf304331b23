"""Colours of many classes, as unlike each other as they can be, on light and on dark paper."""

import json
from functools import cache

import numpy as np

COUNT = 64  # colours; a class of a higher number has that of one before it
LINES = 6  # the first of them are legible as thin lines and small text
PAPER = {"light": "#ffffff", "dark": "#16191d"}  # as page.css has it
CONTRAST = 3.0  # of WCAG, that a colour has to the paper at least, as a shape
CONTRAST_OF_TEXT = 4.5
LIGHTNESS = (0.3, 0.93)  # none is nearly black or white
CHROMA = (0.05, 0.22)  # none is a grey, and none glares
FIRST = {"light": "#1a56b0", "dark": "#8ab8ff"}  # the accent of page.css, or what is nearest to it
STEPS = 20  # of each of red, green and blue, among which is chosen

# Oklab (Björn Ottosson, 2020, https://bottosson.github.io/posts/oklab): distances in it are about
# those that people see.
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@cache
def palette(scheme: str) -> tuple[str, ...]:
    """Colours like "#1a56b0", each as far as can be from all before it.

    Args:
        scheme: "light" or "dark", the paper that they lie on.
    """
    levels = np.round(np.linspace(0, 255, STEPS))
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = oklab(rgb)
    contrast = contrasts(rgb, PAPER[scheme])
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (contrast >= CONTRAST) & (chroma >= CHROMA[0]) & (chroma <= CHROMA[1])
    usable &= (lab[:, 0] >= LIGHTNESS[0]) & (lab[:, 0] <= LIGHTNESS[1])
    legible = usable & (contrast >= CONTRAST_OF_TEXT)
    distance = -np.linalg.norm(lab - oklab(bytes_of(FIRST[scheme])), axis=1)
    chosen: list[int] = []
    while len(chosen) < COUNT:
        allowed = legible if len(chosen) < LINES else usable
        chosen.append(int(np.where(allowed, distance, -np.inf).argmax()))
        new = np.linalg.norm(lab - lab[chosen[-1]], axis=1)
        distance = new if len(chosen) == 1 else np.minimum(distance, new)
    return tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb[chosen].astype(int).tolist())


def colour(number: int, scheme: str = "light") -> str:
    """That of a class."""
    return palette(scheme)[number % COUNT]


def script() -> str:
    """JavaScript that says the same to pages: PALETTE.light and PALETTE.dark."""
    both = {scheme: palette(scheme) for scheme in PAPER}
    return f'"use strict";\n\nconst PALETTE = {json.dumps(both)};\n'


def bytes_of(colour: str) -> np.ndarray:
    """Red, green and blue of "#rrggbb", 0..255."""
    return np.array(list(bytes.fromhex(colour[1:])), float)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Lightness and two axes of colour of levels 0..255 of sRGB [..., 3]."""
    return np.cbrt(_linear(rgb) @ _TO_LMS.T) @ _TO_LAB.T


def contrasts(rgb: np.ndarray, paper: str) -> np.ndarray:
    """The contrast ratio of WCAG 2 between levels [..., 3] and a paper [...]."""
    both = [_linear(x) @ [0.2126, 0.7152, 0.0722] + 0.05 for x in (rgb, bytes_of(paper))]
    return np.maximum(*both) / np.minimum(*both)


def _linear(rgb: np.ndarray) -> np.ndarray:
    levels = np.asarray(rgb) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
