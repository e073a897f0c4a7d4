"""Blending is a weighted mean: exact for what tiles agree on, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.buildings.rasters import blend_weights
from robustvision.buildings.rasters.blending import Accumulator, divide, to_bytes
from robustvision.core.errors import InputError

SHAPES = ("hann", "triangular", "gaussian")


@pytest.mark.parametrize("blend", SHAPES)
@pytest.mark.parametrize("tile", [1, 2, 33, 256])
def test_weights_are_symmetric_positive_and_largest_in_the_middle(blend, tile):
    weights = blend_weights(tile, blend)
    assert weights.dtype == np.float32
    assert weights.shape == (tile, tile)
    assert weights.min() >= np.float32(1e-3)
    for other in (weights.T, weights[::-1], weights[:, ::-1]):
        np.testing.assert_allclose(weights, other, rtol=1e-5)
    assert weights[tile // 2, tile // 2] == weights.max() <= 1
    assert (np.diff(weights[tile // 2, : (tile + 1) // 2]) >= 0).all()


@pytest.mark.parametrize("blend", SHAPES)
def test_weights_are_those_of_their_formula(blend):
    tile = 64
    expected = np.empty((tile, tile))
    for row in range(tile):
        for column in range(tile):
            parts = []
            for place in (row + 0.5, column + 0.5):
                x = place - tile / 2
                hann, triangle = 0.5 * (1 + np.cos(2 * np.pi * x / tile)), 1 - abs(x) / (tile / 2)
                gauss = np.exp(-(x**2) / (2 * (tile / 8) ** 2))
                parts.append({"hann": hann, "triangular": triangle, "gaussian": gauss}[blend])
            expected[row, column] = max(1e-3, parts[0] * parts[1])
    np.testing.assert_allclose(blend_weights(tile, blend), expected, rtol=1e-5)


def test_hann_tiles_at_half_a_step_sum_to_one():
    line = np.sqrt(np.diag(blend_weights(64).astype(np.float64)))[8:24]
    far = np.sqrt(np.diag(blend_weights(64).astype(np.float64)))[40:56]
    np.testing.assert_allclose(line + far, 1, rtol=1e-6)


def test_sums_are_those_of_a_direct_computation():
    rng = np.random.default_rng(0)
    tile, width, rows, columns = 8, 21, (0, 5, 10), (0, 5, 10, 13)
    weights = blend_weights(tile, "triangular")
    tiles = rng.random((len(rows), len(columns), tile, tile)).astype(np.float32)
    total, weight = np.zeros((2, 18, width))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total[row : row + tile, column : column + tile] += weights.astype(np.float64) * tiles[i, j]
            weight[row : row + tile, column : column + tile] += weights
    accumulator = Accumulator(weights, width)
    pieces = []
    for i, end in enumerate((5, 10, 18)):
        for j, column in enumerate(columns):
            accumulator.add(column, tiles[i, j].copy())
        pieces.append(accumulator.advance(end - rows[i]))
    found = np.concatenate(pieces, axis=1)
    np.testing.assert_allclose(found, np.stack([total, weight]), rtol=1e-5)
    np.testing.assert_allclose(divide(found), total / weight, rtol=1e-5)


def test_every_byte_survives_weights_of_any_size():
    values = np.arange(256, dtype=np.float32) / 255
    for scale in (1e-3, 0.37, 1.0, 4.0):
        weight = np.full(256, scale, np.float32)
        assert to_bytes(np.stack([values * weight, weight])[:, None])[0].tolist() == list(range(256))


def test_where_no_tile_was_there_is_zero():
    assert divide(np.zeros((2, 1, 3), np.float32)).tolist() == [[0, 0, 0]]


def test_an_unknown_shape_is_refused():
    with pytest.raises(InputError, match="choose hann, triangular, gaussian"):
        blend_weights(8, "flat")
