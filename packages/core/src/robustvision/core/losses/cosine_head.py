"""The head of every margin loss: class centres on a sphere, and the cosines of embeddings to them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_number

SHORTEST = 1e-12
"""Vectors up to this length have no direction: their cosines are 0, and so are the gradients."""


class CosineHead(nn.Module):
    r"""Class centres :math:`W` and the cosines :math:`\langle x_i/|x_i|,\ W_j/|W_j|\rangle` of embeddings to them.

    Only the direction of a centre matters; its length sets how fast it turns at a given learning rate. The cosines are
    computed in float32 (float64 where both sides are), under autocast too. A vector of length 0 has cosine 0 to
    everything, and no gradient.

    Args:
        num_classes: C, at least 1.
        embedding_size: d, at least 1.
        init_std: Standard deviation of the normal start values. By default ``2 * sqrt(2 / num_classes)``, as the SFace
            authors draw them; arcface_torch takes 0.01.
        scale: s, by which :meth:`forward` multiplies the cosines. The margin losses scale by themselves and want 1; a
            loss over logits wants more, since cosines alone cannot tell a class surely
            (:func:`robustvision.core.losses.scale_for_loss`).
        learn_scale: Whether s is a parameter, learned in the form log s.

    Attributes:
        centres: W, [C, d].

    Raises:
        InputError: Sizes below 1, or a scale that is not above 0.

    Example:
        >>> head = CosineHead(num_classes=10, embedding_size=4)
        >>> cosines = head(7.0 * head.centres[:3])  # three centres, longer
        >>> cosines.shape, cosines.argmax(dim=1)
        (torch.Size([3, 10]), tensor([0, 1, 2]))
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        init_std: float | None = None,
        scale: float = 1.0,
        learn_scale: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or embedding_size < 1:
            raise InputError(
                f"a head with num_classes={num_classes} and embedding_size={embedding_size} was asked for: "
                "both must be at least 1"
            )
        check_number("scale", scale, above=0.0)
        self.scale = scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learn_scale else None
        self.init_std = 2.0 * math.sqrt(2.0 / num_classes) if init_std is None else init_std
        self.centres = nn.Parameter(torch.empty(num_classes, embedding_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the centres anew."""
        nn.init.normal_(self.centres, std=self.init_std)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [B, d] to scaled cosines [B, C]: see :meth:`cosines`."""
        return self.scaled(self.cosines(embeddings))

    def scaled(self, cosines: Tensor) -> Tensor:
        """Cosines times s, of any shape."""
        if self.log_scale is not None:
            return cosines * self.log_scale.to(cosines.dtype).exp()
        return cosines if self.scale == 1.0 else cosines * self.scale

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Embeddings to cosines.

        Args:
            embeddings: [B, d], floating point, of any length.

        Returns:
            [B, C], float32 or float64.

        Raises:
            InputError: Another shape.
        """
        size = self.centres.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise InputError(f"the embeddings have shape {list(embeddings.shape)}, but the head takes [batch, {size}]")
        dtype = torch.promote_types(self.centres.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(dtype)
            directions = embeddings * _inverse_lengths(embeddings)[:, None]
            cosines: Tensor = _DotWithDirections.apply(directions, self.centres.to(dtype))
            return cosines

    def extra_repr(self) -> str:
        classes, size = self.centres.shape
        scale = "learned" if self.log_scale is not None else f"{self.scale:g}"
        return f"num_classes={classes}, embedding_size={size}, scale={scale}"


class _DotWithDirections(torch.autograd.Function):
    """``x @ normalize(W).T`` without ever holding the normalised copy of W, the largest tensor where classes are many.

    Against plain autograd it takes half the time, and one buffer of the size of W (its gradient) instead of four.
    """

    @staticmethod
    def forward(x: Tensor, W: Tensor) -> Tensor:
        return (x @ W.T).mul_(_inverse_lengths(W))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, W = ctx.saved_tensors
        inverse = _inverse_lengths(W)
        grad = grad * inverse
        grad_x = grad @ W if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        # A centre turns but does not grow: from grad.T @ x the part along the centre is taken away.
        full = grad.T @ x
        along = torch.bmm(full[:, None, :], W[:, :, None]).view(-1, 1) * inverse.square()[:, None]
        target = None if torch.is_grad_enabled() else full  # in place, unless this is to be differentiated again
        return grad_x, torch.addcmul(full, W, along, value=-1.0, out=target)


def _inverse_lengths(rows: Tensor) -> Tensor:
    """One over the length of every row, and 0 (with gradient 0) for rows that have none."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    inverse: Tensor = lengths.masked_fill(lengths <= SHORTEST, torch.inf).reciprocal()
    return inverse
