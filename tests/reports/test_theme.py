import itertools

import numpy as np
import pytest

from reports import theme

# Machado, Oliveira and Fernandes (2009), severity 1.
BLINDNESS = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    "none": np.eye(3).tolist(),
}


def lab(colour, matrix):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (xyz @ seen) / np.array([0.9505, 1.0, 1.089])
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("matrix", BLINDNESS.values(), ids=BLINDNESS)
def test_strategy_colours_differ_for_every_kind_of_sight(matrix):
    seen = [lab(colour, matrix) for colour in theme.SERIES]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 16


def test_text_contrast():
    for mode, page in ((theme.LIGHT, "#f7f8f9"), (theme.DARK, "#12161b")):
        for surface in (mode.surface, page):
            assert theme.contrast(mode.ink, surface) >= 7
            assert theme.contrast(mode.muted, surface) >= 4.5


def test_numbers_on_bit_colours_are_readable():
    for colour in theme.BITS.values():
        assert theme.contrast(theme.text_on(colour), colour) >= 4.5


def test_contrast_of_black_on_white_is_21():
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_bits_grow_lighter():
    light = [theme.luminance(colour) for _, colour in sorted(theme.BITS.items())]
    assert light == sorted(light)
    assert theme.bits_colour(5) == theme.BITS[5]
    assert theme.bits_colour(24) in (theme.BITS[16], theme.BITS[32])


def test_many_strategies_stay_distinct():
    styles = theme.styles([f"s{i}" for i in range(18)])
    marks = {(style.colour, style.mark, style.dash) for style in styles.values()}
    assert len(marks) == 19  # baselines have a style of their own
