"""Independent component analysis by JADE: sources that are as independent as fourth-order statistics can tell."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_SWEEPS = 50  # it converges in about five
_SMALLEST_TURN = 1e-9  # radians
_RANK = 1e-12  # a direction with less than this share of the largest variance is empty


def jade(x: npt.ArrayLike) -> Float64:
    """Separate mixtures into sources of unit variance; order and sign are arbitrary.

    The mixtures are whitened, then turned so that all their fourth-order cumulant matrices are as diagonal as one
    rotation can make them (Jacobi sweeps over pairs of sources, all items of a batch at once).

    Args:
        x: ``[..., N, T]``, N mixtures.

    Returns:
        float64 ``[..., N, T]``, N sources. Where the mixtures span fewer than N directions, the missing sources are 0.

    References:
        J.-F. Cardoso, A. Souloumiac, "Blind beamforming for non-Gaussian signals", IEE Proceedings F 140, 1993.

    Example:
        >>> t = np.arange(600) / 30
        >>> saw, sine = t % 1 - 0.5, np.sin(2.3 * t)
        >>> sources = jade([saw + sine, saw - 0.5 * sine])
        >>> bool(np.abs(np.corrcoef(sources, [saw, sine])[:2, 2:]).max(axis=1).min() > 0.99)
        True
    """
    white = whiten(np.asarray(x, dtype=np.float64))
    return np.swapaxes(common_rotation(cumulant_matrices(white)), -1, -2) @ white


def whiten(x: Float64) -> Float64:
    """Centre ``[..., N, T]`` and make its N rows uncorrelated, of variance 1 (0 where there is none)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance, axes = np.linalg.eigh(centred @ np.swapaxes(centred, -1, -2) / x.shape[-1])
    is_empty = variance <= _RANK * variance[..., -1:]
    scale = np.where(is_empty, 0.0, 1 / np.sqrt(np.where(is_empty, 1.0, variance)))
    return scale[..., None] * (np.swapaxes(axes, -1, -2) @ centred)


def cumulant_matrices(z: Float64) -> Float64:
    r"""Fourth-order cumulants ``cum(z_i, z_j, ., .)`` of centred rows, for i <= j; off the diagonal times sqrt(2).

    The factor makes the sum of squares over the N(N+1)/2 matrices that over all N^2 pairs.

    Args:
        z: ``[..., N, T]``, centred.

    Returns:
        float64 ``[..., N(N+1)/2, N, N]``.
    """
    rows, length = z.shape[-2:]
    second = z @ np.swapaxes(z, -1, -2) / length
    matrices = []
    for i, j in itertools.combinations_with_replacement(range(rows), 2):
        fourth = (z[..., i, None, :] * z[..., j, None, :] * z) @ np.swapaxes(z, -1, -2) / length
        outer = second[..., :, i, None] * second[..., None, :, j]
        cumulant = fourth - second[..., i, j, None, None] * second - outer - np.swapaxes(outer, -1, -2)
        matrices.append(cumulant * (1.0 if i == j else np.sqrt(2)))
    return np.stack(matrices, axis=-3)


def common_rotation(matrices: Float64) -> Float64:
    """Rotation V for which ``V' M V`` of all symmetric matrices M is as diagonal as possible.

    Args:
        matrices: ``[..., K, N, N]``.

    Returns:
        float64 ``[..., N, N]``.
    """
    size = matrices.shape[-1]
    rotation = np.broadcast_to(np.eye(size), (*matrices.shape[:-3], size, size)).copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        for p, q in itertools.combinations(range(size), 2):
            difference = matrices[..., p, p] - matrices[..., q, q]
            mixed = 2 * matrices[..., p, q]
            on, off = (difference**2 - mixed**2).sum(-1), 2 * (difference * mixed).sum(-1)
            angle = 0.5 * np.arctan2(off, on + np.hypot(on, off))
            turn = np.broadcast_to(np.eye(size), rotation.shape).copy()
            turn[..., p, p] = turn[..., q, q] = np.cos(angle)
            turn[..., q, p] = np.sin(angle)
            turn[..., p, q] = -turn[..., q, p]
            rotation = rotation @ turn
            matrices = np.swapaxes(turn, -1, -2)[..., None, :, :] @ matrices @ turn[..., None, :, :]
            largest = max(largest, float(np.abs(angle).max(initial=0.0)))
        if largest < _SMALLEST_TURN:
            break
    return rotation
