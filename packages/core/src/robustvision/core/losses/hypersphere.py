"""How low can the loss of a normalised softmax become? What a scale allows, and the scale that a loss needs.

The softmax itself is :func:`robustvision.core.losses.normalized_softmax_loss` on the cosines of a ``CosineHead``; the
test on classes that training never saw is in ``robustvision.core.evaluation``.
"""

from __future__ import annotations

import math

from robustvision.core.errors import InputError


def normface_bound(num_classes: int, scale: float) -> float:
    r"""The lowest mean loss that a normalised softmax can reach on a batch with equally many samples of every class.

    .. math::
        L^* = \log\Big(1 + (n-1)\, e^{-s\,n/(n-1)}\Big)

    It is reached where all samples lie on their centres and the centres form a regular simplex, with a cosine of
    :math:`-1/(n-1)` between any two; that takes an embedding of at least n - 1 dimensions. Where the classes are not
    equally frequent, the mean loss may fall below.

    Args:
        num_classes: n, at least 2.
        scale: s, above 0.

    Returns:
        The bound, in nats: close to log n for a small scale, close to 0 for a large one.

    Raises:
        InputError: Fewer than two classes, or a scale that is not a positive number.

    References:
        Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017, arXiv 1704.06369.

    Example:
        >>> round(normface_bound(num_classes=10, scale=1.0), 4), round(normface_bound(num_classes=10, scale=4.65), 3)
        (1.3769, 0.05)
    """
    _check_num_classes(num_classes)
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"scale is {scale}, but a normalised softmax needs a positive one, such as 20")
    others = num_classes - 1
    exponent = math.log(others) - scale * num_classes / others
    return max(exponent, 0.0) + math.log1p(math.exp(-abs(exponent)))  # softplus: neither exp nor log overflows


def scale_for_loss(num_classes: int, loss: float) -> float:
    r"""The smallest scale at which a normalised softmax can reach a loss: the inverse of :func:`normface_bound`.

    .. math::
        s = \frac{n-1}{n}\,\log\frac{n-1}{e^L - 1}

    Args:
        num_classes: n, at least 2.
        loss: L, in nats; above 0 and below log n, which the scale 0 gives.

    Returns:
        The scale.

    Raises:
        InputError: Fewer than two classes, or a loss outside of (0, log n).

    References:
        Wang et al., arXiv 1704.06369.

    Example:
        >>> round(scale_for_loss(num_classes=10, loss=0.05), 2), round(scale_for_loss(num_classes=1000, loss=0.05), 2)
        (4.65, 9.87)
    """
    _check_num_classes(num_classes)
    if not 0 < loss < math.log(num_classes):
        raise InputError(
            f"a loss of {loss} was asked for, but with {num_classes} classes a scale decides between 0 and "
            f"log {num_classes} = {math.log(num_classes):.4g}: give a loss in between"
        )
    others = num_classes - 1
    return others / num_classes * (math.log(others) - math.log(math.expm1(loss)))


def _check_num_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise InputError(f"num_classes is {num_classes}, but over one class the loss is always 0: give at least 2")
