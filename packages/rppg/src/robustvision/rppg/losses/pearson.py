"""One minus the correlation of two waves."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from robustvision.core.errors import InputError

LEAST_VARIANCE = 1e-8
"""Added to a variance: a wave whose standard deviation is far below 1e-4 counts as constant."""


def standardise(wave: Tensor) -> Tensor:
    """Waves without offset and with variance 1; a constant wave gives zeros, and a finite gradient.

    Args:
        wave: [B, T]. Half precision is widened to float32.

    Returns:
        [B, T], at least float32.

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    wave = wave.float() if wave.dtype.itemsize < 4 else wave
    centred = wave - wave.mean(dim=-1, keepdim=True)
    return centred * (centred.square().mean(dim=-1, keepdim=True) + LEAST_VARIANCE).rsqrt()


def neg_pearson(prediction: Tensor, bvp: Tensor, *, over: Literal["clip", "batch"] = "clip") -> Tensor:
    r"""Negative Pearson correlation: :math:`1 - \mathrm{cov}(x, y) / (\sigma_x \sigma_y)`, between 0 and 2.

    The waves are centred first; the closed form in sums is NaN for a constant wave and cancels digits under an offset.
    A constant wave has correlation 0.

    Args:
        prediction: x, [B, T].
        bvp: y, [B, T].
        over: ``clip`` correlates each clip and averages (PhysNet); ``batch`` takes one correlation over all clips
            joined (TS-CAN, DeepPhys). They agree where every clip has the same mean and variance.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Waves of different shape, or an unknown ``over``.

    References:
        Yu, Li and Zhao, "Remote Photoplethysmograph Signal Measurement from Facial Videos Using Spatio-Temporal
        Networks", BMVC 2019, arXiv 1905.02419, equation 2.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
        >>> y = torch.tensor([[5.0, 7.0, 9.0], [5.0, 7.0, 9.0]])
        >>> neg_pearson(x, y).round(decimals=4)
        tensor(1.)
    """
    if prediction.shape != bvp.shape or prediction.ndim != 2:
        raise InputError(
            f"the prediction is {list(prediction.shape)}, the reference {list(bvp.shape)}: both must be [B, T]"
        )
    if over not in ("clip", "batch"):
        raise InputError(f"over is {over!r}: choose clip or batch")
    if over == "batch":
        prediction, bvp = prediction.reshape(1, -1), bvp.reshape(1, -1)
    return 1.0 - (standardise(prediction) * standardise(bvp)).mean()


class NegPearson(nn.Module):
    """As a module: see :func:`neg_pearson`.

    Example:
        >>> import torch
        >>> NegPearson()(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]))  # a constant prediction
        tensor(1.)
    """

    def __init__(self, over: Literal["clip", "batch"] = "clip") -> None:
        super().__init__()
        self.over: Literal["clip", "batch"] = over

    def forward(self, prediction: Tensor, bvp: Tensor) -> Tensor:
        """Waves [B, T] and [B, T] to a scalar."""
        return neg_pearson(prediction, bvp, over=self.over)

    def extra_repr(self) -> str:
        return f"over={self.over!r}"
