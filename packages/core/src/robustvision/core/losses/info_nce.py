"""InfoNCE, for two views of one picture (NT-Xent) and for pairs of two kinds: the negatives of the batch, no memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustvision.core.losses.batch import check_number
from robustvision.core.losses.views import similarities, unit_pairs


def nt_xent_loss(first: Tensor, second: Tensor, tau: float = 0.1) -> Tensor:
    r"""The normalised temperature-scaled cross-entropy of SimCLR: each of 2B views must find its partner.

    .. math::
        L = -\frac{1}{2B} \sum_i \log \frac{e^{s_{i,+}/\tau}}{\sum_{j \ne i} e^{s_{ij}/\tau}}

    s are cosines, + is the other view of the same sample; the sum holds it and the 2B - 2 views of the other samples.
    Computed in float32 at least, under autocast too. Of several processes all samples are negatives.

    Args:
        first: Features of one view, [B, D], of any length.
        second: Features of the other view, [B, D]; row i of both belongs to one sample.
        tau: The temperature, above 0.

    Returns:
        The mean over the views, a scalar.

    Raises:
        InputError: Other shapes or dtypes, a batch of less than 2, or a temperature that is not positive.

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
        arXiv 2002.05709, equation 1.

    Example:
        >>> views = torch.eye(4)
        >>> nt_xent_loss(views, views, tau=0.5)  # log(e^2 + 6) - 2
        tensor(0.5944)
    """
    check_number("tau", tau, above=0)
    first, second, _ = unit_pairs(first, second)
    views = torch.cat([first, second])
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    scores = (similarities(views, views) / tau).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return cross_entropy(scores, partner)


def info_nce_loss(first: Tensor, second: Tensor, tau: float = 0.07) -> Tensor:
    r"""InfoNCE between pictures and texts, or any two kinds, in both directions (the loss of CLIP).

    .. math::
        L = -\frac{1}{2B} \sum_i \Big(\log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}
            + \log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ji}/\tau}}\Big)

    s_ij is the cosine between picture i and text j. Computed in float32 at least, under autocast too. Of several
    processes all samples are negatives.

    Args:
        first: Features of the pictures, [B, D], of any length.
        second: Features of the texts, [B, D]; row i of both belongs to one sample.
        tau: The temperature, above 0.

    Returns:
        The mean over both directions, a scalar.

    Raises:
        InputError: Other shapes or dtypes, a batch of less than 2, or a temperature that is not positive.

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
        arXiv 2103.00020.

    Example:
        >>> info_nce_loss(torch.eye(4), torch.eye(4), tau=0.5)  # log(e^2 + 3) - 2
        tensor(0.3408)
    """
    check_number("tau", tau, above=0)
    first, second, _ = unit_pairs(first, second)
    scores = similarities(first, second) / tau
    same = torch.arange(len(scores), device=scores.device)
    return 0.5 * (cross_entropy(scores, same) + cross_entropy(scores.T, same))


class NTXentLoss(nn.Module):
    """NT-Xent as a module: see :func:`nt_xent_loss`.

    Args:
        tau: The temperature.

    Example:
        >>> NTXentLoss(tau=0.5)(torch.eye(4), torch.eye(4))
        tensor(0.5944)
    """

    def __init__(self, tau: float = 0.1) -> None:
        super().__init__()
        check_number("tau", tau, above=0)
        self.tau = tau

    def forward(self, first: Tensor, second: Tensor, *, index: Tensor | None = None) -> Tensor:
        """Two views [B, D] to the loss; ``index`` is for the losses that remember samples, and not used here."""
        return nt_xent_loss(first, second, self.tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau}"


class InfoNCELoss(nn.Module):
    """InfoNCE as a module: see :func:`info_nce_loss`.

    Args:
        tau: The temperature.

    Example:
        >>> InfoNCELoss(tau=0.5)(torch.eye(4), torch.eye(4))
        tensor(0.3408)
    """

    def __init__(self, tau: float = 0.07) -> None:
        super().__init__()
        check_number("tau", tau, above=0)
        self.tau = tau

    def forward(self, first: Tensor, second: Tensor, *, index: Tensor | None = None) -> Tensor:
        """Pictures and texts [B, D] to the loss; ``index`` is for the losses that remember samples, and not used."""
        return info_nce_loss(first, second, self.tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau}"
