"""Distances between all pairs of a batch, [B, B], from one matrix product: the SNR distance and the squared Euclidean.

A pair loss takes any of them, or any callable from embeddings [B, D] to distances [B, B], as ``distance=``. Row i is
that of anchor i. Nothing of the size B x B x D is ever held. All compute in float32 at least, under autocast too.

A product form cancels: ``|x|^2 + |y|^2 - 2 x.y`` of nearly equal vectors is a difference of large numbers. Its error
stays below some units of rounding of ``|x|^2 + |y|^2``, but a distance smaller than that is noise. The diagonal is set
to exactly 0, and what rounding makes negative becomes 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import describe, in_float32_at_least


def snr_distance(anchors: Tensor, others: Tensor | None = None, eps: float | None = None) -> Tensor:
    r"""The reciprocal of the signal-to-noise ratio: the anchor is the signal, the difference to the other the noise.

    With the variance over the D dimensions of an embedding,

    .. math::
        d_{ij} = \frac{\mathrm{Var}(h_i - h_j)}{\mathrm{Var}(h_i)} = 1 + r^2 - 2\,r\,\mathrm{corr}(h_i, h_j),
        \qquad r = \frac{\mathrm{sd}(h_j)}{\mathrm{sd}(h_i)}

    It does not change when all embeddings are scaled alike or when a constant is added to all entries of one. It is not
    symmetric, and no metric. For embeddings of zero mean it is the squared Euclidean distance over :math:`|h_i|^2`.

    A constant anchor carries no signal: its row is 0, without a gradient. As the other of an anchor it is an ordinary
    vector, at distance 1.

    Args:
        anchors: h_i, floating point [B, D], D at least 1.
        others: h_j, [N, D]; by default the anchors themselves.
        eps: An anchor counts as constant when its standard deviation is at most ``eps`` times its root mean square. By
            default 16 times the ``eps`` of the dtype that is computed in: centring leaves less than that of a constant.

    Returns:
        [B, N], float32 or float64, at least 0. Without ``others`` the diagonal is exactly 0. The error is below about
        8 u (1 + r^2), with u the eps of the dtype that is computed in (1.2e-7 in float32).

    Raises:
        InputError: Other shapes or dtypes.

    References:
        Yuan et al., "Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning", CVPR 2019,
        arXiv 1904.02616.

    Example:
        >>> snr_distance(torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]]))
        tensor([[0.0000, 0.5500],
                [0.3143, 0.0000]])
    """
    _check(anchors, others)
    with torch.autocast(anchors.device.type, enabled=False):
        signals, inverse_powers = centred_signals(anchors, eps)
        noise = _squared_distances(signals, None if others is None else _centred(others))
        return noise * inverse_powers[:, None]


def squared_euclidean_distance(anchors: Tensor, others: Tensor | None = None) -> Tensor:
    r"""The squared Euclidean distance :math:`|h_i - h_j|^2`.

    Args:
        anchors: h_i, floating point [B, D], D at least 1.
        others: h_j, [N, D]; by default the anchors themselves.

    Returns:
        [B, N], float32 or float64, at least 0. Without ``others`` the diagonal is exactly 0.

    Raises:
        InputError: Other shapes or dtypes.

    Example:
        >>> squared_euclidean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[ 0., 25.],
                [25.,  0.]])
    """
    _check(anchors, others)
    with torch.autocast(anchors.device.type, enabled=False):
        return _squared_distances(in_float32_at_least(anchors), None if others is None else in_float32_at_least(others))


class SNRDistance(nn.Module):
    """The SNR distance as a module: see :func:`snr_distance`.

    Example:
        >>> SNRDistance()(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 3.0, 2.0, 5.0]]))
        tensor([[0.5500]])
    """

    def __init__(self, eps: float | None = None) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, anchors: Tensor, others: Tensor | None = None) -> Tensor:
        """Embeddings [B, D], and [N, D], to distances [B, N]."""
        return snr_distance(anchors, others, self.eps)


class SquaredEuclideanDistance(nn.Module):
    """The squared Euclidean distance as a module: see :func:`squared_euclidean_distance`.

    Example:
        >>> SquaredEuclideanDistance()(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """

    def forward(self, anchors: Tensor, others: Tensor | None = None) -> Tensor:
        """Embeddings [B, D], and [N, D], to distances [B, N]."""
        return squared_euclidean_distance(anchors, others)


def centred_signals(embeddings: Tensor, eps: float | None = None) -> tuple[Tensor, Tensor]:
    """Embeddings without their means, [B, D], and one over their sums of squares, [B].

    A constant has 0 there, with gradient 0.

    Args:
        embeddings: [B, D].
        eps: As in :func:`snr_distance`.

    Returns:
        Both in float32 or float64.
    """
    embeddings = in_float32_at_least(embeddings)
    signals = _centred(embeddings)
    if eps is None:
        eps = 16.0 * torch.finfo(embeddings.dtype).eps
    powers = signals.square().sum(1)
    constant = powers <= eps**2 * embeddings.square().sum(1)
    return signals, powers.masked_fill(constant, torch.inf).reciprocal()


def _squared_distances(x: Tensor, y: Tensor | None) -> Tensor:
    """In one buffer. Between the rows of x where y is None."""
    x_squares = x.square().sum(1)
    y_squares = x_squares if y is None else y.square().sum(1)
    squares = torch.addmm(y_squares[None, :], x, (x if y is None else y).T, alpha=-2.0).add_(x_squares[:, None])
    if y is None:
        squares.fill_diagonal_(0.0)
    return squares.relu_()  # not a clamp, whose gradient at 0 differs between versions of torch


def _centred(embeddings: Tensor) -> Tensor:
    embeddings = in_float32_at_least(embeddings)
    return embeddings - embeddings.mean(1, keepdim=True)


def _check(anchors: Tensor, others: Tensor | None) -> None:
    check_embeddings(anchors)
    if others is None:
        return
    check_embeddings(others)
    if others.shape[1] != anchors.shape[1]:
        raise InputError(
            f"the anchors are {describe(anchors)} and the others {describe(others)}: both need the same dimensions"
        )


def check_embeddings(embeddings: Tensor) -> None:
    """Refuse embeddings that are not floating point [batch, dimensions] with at least one dimension.

    Raises:
        InputError: Another shape or dtype.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] == 0 or not embeddings.is_floating_point():
        raise InputError(
            f"the embeddings are {describe(embeddings)}, but a floating-point [batch, dimensions] is expected"
        )
