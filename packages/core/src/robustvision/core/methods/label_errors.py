"""Scores of how suspicious each given label is, from one training run: no network is trained for them alone.

A trajectory averages what a sample's loss was while the network learned; a wrong label is learned late, if at all. The
individual temperature of ALDR-KL is there at the end of a training with that loss. Every score is one number a sample,
by its place in the training set, and higher is more suspicious. Which score finds errors, and which does not, was
measured: see the page on label errors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.aldr import ALDRLoss
from robustvision.core.losses.batch import check_batch
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.sample_state import SampleState


class LossTrajectory(nn.Module):
    """The mean over its visits of a value of each training sample, such as its loss.

    Record in every training step, or only in some epochs. What is kept are buffers, as in :class:`SampleState`: part of
    a checkpoint, common to all processes. A value that is not finite counts as no visit, and a sample that is there
    twice in a batch as one visit with the mean value.

    Args:
        num_samples: Size of the training set N, at least 1.

    Attributes:
        state: The mean and the number of visits of each sample, ``state.mean`` and ``state.visits``, float32 [N].

    Raises:
        InputError: ``num_samples`` below 1.

    Example:
        >>> trajectory = LossTrajectory(4)
        >>> trajectory.record(torch.tensor([1.0, 5.0]), index=torch.tensor([0, 2]))
        >>> trajectory.record(torch.tensor([2.0, 0.0]), index=torch.tensor([0, 1]))
        >>> trajectory.scores()
        tensor([1.5000, 0.0000, 5.0000,    nan])
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.state = SampleState(num_samples, mean=0.0, visits=0.0)

    @torch.no_grad()
    def record(self, values: Tensor, *, index: Tensor) -> None:
        """Add a visit of each sample of a batch.

        Args:
            values: One value a sample, [B], higher where the sample is more suspicious: what a loss with the reduction
                "none" gives. Leave out samples whose label is ignored, or give them NaN.
            index: Their places in the training set, integer [B].

        Raises:
            InputError: Another shape, or a place outside of the training set.
        """
        if values.ndim != 1:
            raise InputError(f'values are {list(values.shape)}, expected [B]: take the loss with reduction="none"')
        index = self.state.check(index, len(values))
        values = values.to(index.device, torch.float32)
        before = self.state.read(index)
        visits = before["visits"] + 1.0
        self.state.write(index, mean=before["mean"] + (values - before["mean"]) / visits, visits=visits)

    def scores(self) -> Tensor:
        """The mean of each sample, float32 [N]; NaN where it was never visited."""
        mean: Tensor = self.state.read(torch.arange(self.state.num_samples, device=self.state.visited.device))["mean"]
        return mean.masked_fill(~self.state.visited, torch.nan)


def negative_margin(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORED) -> Tensor:
    r"""How far the best other class is above the given one, :math:`\max_{k \ne y} f_k - f_y`.

    Its trajectory is the negative area under the margin (Pleiss et al.).

    Args:
        logits: Class scores f, [B, C], C at least 2.
        target: The given labels y, integer [B].
        ignore_index: The label of a sample that does not count.

    Returns:
        The differences, [B], float32 at least; NaN for ignored samples, so that a trajectory leaves them out.

    Raises:
        InputError: Wrong shapes, dtypes or labels.

    References:
        G. Pleiss et al., "Identifying mislabeled data using the area under the margin ranking", NeurIPS 2020.

    Example:
        >>> negative_margin(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor([-1.,  2.])
    """
    batch = check_batch(logits, target, ignore_index=ignore_index, least_classes=2)
    own = batch.target[:, None]
    best_other = batch.logits.scatter(1, own, -torch.inf).amax(1)
    margins = best_other - batch.logits.gather(1, own)[:, 0]
    return margins if batch.counted is None else margins.masked_fill(~batch.counted, torch.nan)


def individual_temperature_score(loss: ALDRLoss) -> Tensor:
    r"""How unsure each sample's prediction was at its last visit, read off ALDR-KL's temperatures.

    :math:`1 + \alpha(\lambda_i/\lambda_0 - 1) = 1 - \mathrm{KL}(q_i, 1/C)/\log C`: 0 for a certain prediction, 1 for
    equal probabilities. It does not know the label: a network that is sure of another class than the given one scores
    as low as one that is sure of the given class.

    Args:
        loss: The loss, after training with ``index``; not ``exact``.

    Returns:
        The scores, float32 [N]; NaN where a sample was never visited.

    Raises:
        InputError: An exact loss, which remembers nothing.

    Example:
        >>> loss = ALDRLoss(num_samples=3, lam0=1.0)
        >>> _ = loss(torch.tensor([[8.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([1, 1]), index=torch.tensor([0, 1]))
        >>> individual_temperature_score(loss)
        tensor([0.4613, 1.0000,    nan])
    """
    if loss.state is None:
        raise InputError("an exact ALDRLoss remembers no sample: train with num_samples=... and exact=False")
    lam = loss.state.read(torch.arange(loss.state.num_samples, device=loss.state.visited.device))["lam"]
    score: Tensor = 1.0 + loss.settings["alpha"] * (lam / loss.settings["lam0"] - 1.0)
    return score.masked_fill(~loss.state.visited, torch.nan)
