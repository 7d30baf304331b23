"""Colours of classes: how unlike they are, and that pages and plots have the same."""

import re
from importlib import resources

import numpy as np
import pytest

from maskcon.report.palette import (
    CONTRAST,
    CONTRAST_OF_TEXT,
    COUNT,
    LINES,
    PAPER,
    bytes_of,
    colour,
    contrasts,
    oklab,
    palette,
)

STYLE = resources.files("maskcon.report").joinpath("page.css").read_text("utf-8")


def test_oklab_of_known_colours():
    """https://bottosson.github.io/posts/oklab: white is (1, 0, 0); red as CSS Color 4 has it."""
    assert oklab(np.array([255.0, 255.0, 255.0])) == pytest.approx([1, 0, 0], abs=1e-4)
    assert oklab(np.array([255.0, 0.0, 0.0])) == pytest.approx([0.628, 0.2249, 0.1258], abs=1e-3)
    assert contrasts(np.array([0.0, 0.0, 0.0]), "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", list(PAPER))
def test_colours_differ_and_are_seen(scheme):
    found = palette(scheme)
    assert len(set(found)) == COUNT
    levels = np.stack([bytes_of(one) for one in found])
    lab = oklab(levels)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    # matplotlib's tab20 has 0.054 between two of its 20, and repeats; of the first 43:
    assert distance[:43, :43].min() > 0.08
    contrast = contrasts(levels, PAPER[scheme])
    assert contrast.min() >= CONTRAST
    assert contrast[:LINES].min() >= CONTRAST_OF_TEXT
    assert colour(COUNT + 3, scheme) == found[3]


def test_the_style_sheet_has_the_same():
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    for scheme, text in (("light", light), ("dark", dark)):
        assert re.findall(r"--c\d: (#\w+);", text) == list(palette(scheme)[:LINES])
        assert re.search(rf"--paper: {PAPER[scheme]};", text)
