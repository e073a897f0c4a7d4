"""SogCLR and iSogCLR: contrastive losses that remember every sample, so that small batches do as well as large ones.

``anchors`` holds what happens to one anchor. Here stand the anchors: two views of a sample, or pairs of two kinds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustvision.core.losses.anchors import AnchorState, ISogCLRSetting
from robustvision.core.losses.views import gather_rows, similarities, unit_pairs


class ISogCLRLoss(nn.Module):
    r"""iSogCLR for two views of each sample, with a temperature for every sample.

    Each of the 2B views is an anchor, with the 2B - 2 views of the other samples as negatives;

    .. math::
        L = \frac{1}{B} \sum_i \sum_{v=1,2} \Big( \frac{1}{M} \sum_z p_{v}(z) \cos(i_v, z) - \cos(i_1, i_2) \Big)

    with the weights of :func:`global_contrast` at h = cos, the positive not taken off, as in the authors' code. Both
    views share s, tau and u: the mean of their s and of their gradients is stored. Weights carry no gradient, so the
    value says little, as the weighted sum is no objective; look at ``state.tau``. A gradient is tau times that of
    NT-Xent. Defaults are those of the authors' CIFAR-100 example.

    In training mode each call stores s, u and tau of its samples, and in eval mode nothing. An index that comes twice
    in a batch counts as two samples, and the mean of their values is stored. Of several processes all samples are
    negatives, and all store all.

    Args:
        num_samples: N, the size of the training set.
        tau_init: Temperature before the first visit.
        tau_min: Lowest temperature.
        tau_max: Highest temperature.
        gamma: Weight of the new value in s.
        rho: Radius; a temperature rests where the KL divergence of the weights from uniform is rho.
        beta: Weight of the new value in u.
        eta: Step of the temperature.
        grad_clip: Largest gradient of a temperature, or None.

    Attributes:
        state: ``tau``, ``u``, ``log_s`` and ``visited`` of each sample, float32 buffers.

    References:
        Qiu et al., ICML 2023, arXiv 2305.11965, algorithm 1 and the authors' code.

    Example:
        >>> loss = ISogCLRLoss(100)
        >>> views = torch.eye(4)
        >>> loss(views, views, index=torch.tensor([7, 3, 99, 0]))
        tensor(-2.)
        >>> loss.state.tau[[7, 8]]  # with negatives all alike, a temperature falls by eta beta rho
        tensor([0.0940, 0.1000])
    """

    def __init__(
        self,
        num_samples: int,
        tau_init: float = 0.1,
        tau_min: float = 0.05,
        tau_max: float = 1.0,
        *,
        gamma: float = 0.8,
        rho: float = 0.4,
        beta: float = 0.5,
        eta: float = 0.03,
        grad_clip: float | None = 3.0,
    ) -> None:
        super().__init__()
        setting = ISogCLRSetting(tau_init, tau_min, tau_max, gamma, rho, beta, eta, grad_clip)
        self.state = AnchorState(num_samples, setting)

    def forward(self, first: Tensor, second: Tensor, *, index: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch, and remember its samples.

        Args:
            first: Features of one view, [B, D], of any length.
            second: Features of the other view, [B, D].
            index: Places of the samples in the training set, integer [B]: the same place at every visit.

        Returns:
            A scalar.

        Raises:
            InputError: Other shapes or dtypes, less than 2 samples, no index, or a place out of range.
        """
        first, second, own = unit_pairs(first, second)
        index, _ = gather_rows(self.state.check(index, own.stop - own.start))
        views = torch.cat([first, second])
        negatives = ~torch.eye(len(first), dtype=torch.bool, device=views.device).repeat(2, 2)
        step = self.state.contrast(similarities(views, views), negatives, index.repeat(2))
        if self.training:
            log_s = torch.logaddexp(*step.log_s.view(2, -1)) - math.log(2)
            self.state.remember(index[own], log_s[own], step.tau_gradient.view(2, -1).mean(0)[own])
        return (step.value.view(2, -1).sum(0) - 2 * (first * second).sum(1)).mean()

    def state_for(self, index: Tensor) -> dict[str, Tensor]:
        """What is remembered of some samples: ``tau``, ``u`` and ``log_s``, float32 [B] each."""
        return self.state.read(self.state.check(index, len(index)))


class SogCLRLoss(ISogCLRLoss):
    """SogCLR for two views of each sample: :class:`ISogCLRLoss` with one fixed temperature.

    Args:
        num_samples: N, the size of the training set.
        tau: The temperature.
        gamma: Weight of the new value in s; at 1 nothing is remembered, and the negatives are those of the batch.

    References:
        Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning: Small Batch Does Not Harm
        Performance", ICML 2022, arXiv 2202.12387.

    Example:
        >>> SogCLRLoss(100)(torch.eye(4), torch.eye(4), index=torch.arange(4))
        tensor(-2.)
    """

    def __init__(self, num_samples: int, tau: float = 0.1, *, gamma: float = 0.8) -> None:
        super().__init__(num_samples, tau, tau, tau, gamma=gamma, rho=0.0, eta=0.0)


class BimodalISogCLRLoss(nn.Module):
    r"""iSogCLR for pictures and texts, or any two kinds, with a temperature for every picture and every text.

    Picture i meets the B - 1 texts of other pictures, and text i the B - 1 pictures of other texts;

    .. math::
        L = \frac{1}{B} \sum_i \Big( \frac{1}{B-1} \sum_{j \ne i} p_{ij}\,h_{ij}
            + \frac{1}{B-1} \sum_{j \ne i} p'_{ij}\,h'_{ij} \Big),
        \qquad h_{ij} = c_{ij} - c_{ii}, \quad h'_{ij} = c_{ji} - c_{ii}

    with the weights of :func:`global_contrast`. The authors' code counts the positive among the negatives, and LibAUC
    leaves out 1/(B - 1): neither is done here. Otherwise as :class:`ISogCLRLoss`; defaults are those of the authors'
    example, whose evaluation text has rho 8.

    Args:
        num_samples: N, the number of pairs in the training set.
        tau_init: Temperature before the first visit.
        tau_min: Lowest temperature.
        tau_max: Highest temperature.
        gamma: Weight of the new value in s.
        rho: Radius. The KL divergence of B - 1 weights is log(B - 1) at most: where rho exceeds it (6 needs a batch of
            405), the temperatures fall to ``tau_min``.
        beta: Weight of the new value in u.
        eta: Step of the temperature.
        grad_clip: Largest gradient of a temperature, or None.

    Attributes:
        first_state: ``tau``, ``u``, ``log_s`` and ``visited`` of each picture, float32 buffers.
        second_state: The same of each text.

    Example:
        >>> loss = BimodalISogCLRLoss(100)
        >>> loss(torch.eye(4), torch.eye(4), index=torch.tensor([7, 3, 99, 0]))
        tensor(-2.)
    """

    def __init__(
        self,
        num_samples: int,
        tau_init: float = 0.01,
        tau_min: float = 0.005,
        tau_max: float = 1.0,
        *,
        gamma: float = 0.8,
        rho: float = 6.0,
        beta: float = 0.9,
        eta: float = 0.03,
        grad_clip: float | None = 5.0,
    ) -> None:
        super().__init__()
        setting = ISogCLRSetting(tau_init, tau_min, tau_max, gamma, rho, beta, eta, grad_clip)
        self.first_state, self.second_state = AnchorState(num_samples, setting), AnchorState(num_samples, setting)

    def forward(self, first: Tensor, second: Tensor, *, index: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch, and remember its pairs.

        Args:
            first: Features of the pictures, [B, D], of any length.
            second: Features of the texts, [B, D]; row i of both is one pair.
            index: Places of the pairs in the training set, integer [B].

        Returns:
            A scalar.

        Raises:
            InputError: Other shapes or dtypes, less than 2 pairs, no index, or a place out of range.
        """
        first, second, own = unit_pairs(first, second)
        index, _ = gather_rows(self.first_state.check(index, own.stop - own.start))
        cosines = similarities(first, second)
        negatives = ~torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
        values = []
        for state, of_anchors in ((self.first_state, cosines), (self.second_state, cosines.T)):
            step = state.contrast(of_anchors - cosines.diagonal()[:, None], negatives, index)
            if self.training:
                state.remember(index[own], step.log_s[own], step.tau_gradient[own])
            values.append(step.value)
        return (values[0] + values[1]).mean()

    def state_for(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is remembered of some pictures and of their texts: ``tau``, ``u`` and ``log_s``, float32 [B] each."""
        index = self.first_state.check(index, len(index))
        return self.first_state.read(index), self.second_state.read(index)


class BimodalSogCLRLoss(BimodalISogCLRLoss):
    """SogCLR for pictures and texts: :class:`BimodalISogCLRLoss` with one fixed temperature.

    Args:
        num_samples: N, the number of pairs in the training set.
        tau: The temperature.
        gamma: Weight of the new value in s.

    Example:
        >>> BimodalSogCLRLoss(100)(torch.eye(4), torch.eye(4), index=torch.arange(4))
        tensor(-2.)
    """

    def __init__(self, num_samples: int, tau: float = 0.01, *, gamma: float = 0.8) -> None:
        super().__init__(num_samples, tau, tau, tau, gamma=gamma, rho=0.0, eta=0.0)
