"""The SDM layer: an adaptor over embeddings that knows how well its training data speak for a prediction.

Embeddings [B, D] become exemplars h' [B, M] and logits [B, K]. Against the stored exemplars of the training set (the
support) two numbers are measured for each query: q, how many of its nearest neighbours in a row were classified
rightly, and as the query is; and d, the share of calibration points that lie farther from the support than it does.
``losses/sdm_activation.py`` makes probabilities of them, ``methods/sdm.py`` trains the layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.nn.class_ecdf import ClassECDF, in_blocks, take_shapes

WRONG = -1
"""The class of a support point that the layer itself classifies wrongly: it speaks for nobody."""


class SDMOutput(NamedTuple):
    """What the layer says about a batch.

    Attributes:
        logits: [B, K].
        exemplars: h', [B, M].
        q: Similarity, [B], a whole number as a float; 0 for a query that is not finite.
        d: Distance quantile, [B], in [0, 1]; 0 (as far as can be) for a query that is not finite.
        nearest: L2 distance to the nearest support point, [B].
    """

    logits: Tensor
    exemplars: Tensor
    q: Tensor
    d: Tensor
    nearest: Tensor


def similarity(
    queries: Tensor,
    predictions: Tensor,
    support: Tensor,
    support_class: Tensor,
    cap: int = 1000,
    exclude: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Count the consecutive nearest neighbours that speak for a prediction, and measure the nearest distance.

    With the support sorted by distance (ties by its own order), q is the place of the first point that does not speak
    for the prediction. That is the number of points before it, so nothing needs to be sorted.

    Args:
        queries: [B, M].
        predictions: The class predicted for each query, int64 [B].
        support: [N, M].
        support_class: The class that each support point speaks for, int64 [N]; -1 for none.
        cap: The highest q.
        exclude: The place of each query in the support, int64 [B], where the queries are support points themselves.

    Returns:
        q [B], and the L2 distance to the nearest point [B]; both in the dtype of the queries.

    References:
        arXiv 2502.20167. The squared distances are ``a² + b² - 2ab``: two neighbours whose distances agree to about
        six digits (float32) may change places.

    Example:
        >>> support = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> similarity(torch.tensor([[0.1]]), torch.tensor([5]), support, torch.tensor([5, 5, -1, 5]))
        (tensor([2.]), tensor([0.1000]))
    """
    squares = queries.square().sum(1)[:, None] + support.square().sum(1) - 2.0 * queries @ support.T
    squares = squares.clamp_min(0.0)
    if exclude is not None:
        squares = squares.scatter(1, exclude[:, None], torch.inf)
    silent = squares.masked_fill(support_class == predictions[:, None], torch.inf)
    first = silent.argmin(1, keepdim=True)  # of equal ones the first
    bound = silent.gather(1, first)
    earlier = torch.arange(support.shape[0], device=support.device) < first
    before = (squares < bound) | ((squares == bound) & earlier)
    q = before.sum(1).clamp_max(cap).to(queries.dtype)
    return q, squares.amin(1).sqrt()


class SDMLayer(nn.Module):
    r"""The adaptor D -> M -> K with its support set.

    The embeddings are first standardised by one mean and one standard deviation over all features, as the authors do.
    Before :meth:`set_support` and :meth:`set_distances` there is no q and no d.

    Args:
        in_features: D.
        num_classes: K, at least 2.
        exemplar_size: M. The paper takes 1,000.
        cap: The highest q.

    Attributes:
        support: Exemplars of the training set, [N, M].
        support_class: What each of them speaks for, int64 [N]; -1 where its own prediction is wrong.
        distances: Nearest distances of the points that d compares with (:class:`ClassECDF`).

    Raises:
        InputError: Sizes out of range.

    References:
        arXiv 2502.20167. Its adaptor is a 1-D convolution over the whole vector: for one vector, a linear layer.

    Example:
        >>> layer = SDMLayer(in_features=2, num_classes=2, exemplar_size=3)
        >>> x, labels = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
        >>> layer.set_support(x, labels)
        >>> layer.set_distances(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]))
        >>> output = layer(x)
        >>> output.logits.shape, output.q.shape
        (torch.Size([6, 2]), torch.Size([6]))
    """

    mean: Tensor
    std: Tensor
    support: Tensor
    support_class: Tensor

    def __init__(self, in_features: int, num_classes: int, exemplar_size: int = 1000, *, cap: int = 1000) -> None:
        super().__init__()
        if min(in_features, exemplar_size, cap) < 1 or num_classes < 2:
            raise InputError(
                f"a layer with in_features={in_features}, num_classes={num_classes}, exemplar_size={exemplar_size} and "
                f"cap={cap} was asked for: it needs 2 classes, and at least 1 of everything else"
            )
        self.num_classes, self.cap = num_classes, cap
        self.adaptor = nn.Linear(in_features, exemplar_size)
        self.head = nn.Linear(exemplar_size, num_classes)
        self.distances = ClassECDF(num_classes)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))
        self.register_buffer("support", torch.empty(0, exemplar_size))
        self.register_buffer("support_class", torch.empty(0, dtype=torch.int64))

    def adapt(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] to exemplars [B, M] and logits [B, K].

        Raises:
            InputError: Another shape.
        """
        size = self.adaptor.in_features
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise InputError(f"the embeddings have shape {list(embeddings.shape)}, but the layer takes [batch, {size}]")
        exemplars = self.adaptor((embeddings.to(self.adaptor.weight.dtype) - self.mean) / self.std)
        return exemplars, self.head(exemplars)

    @torch.no_grad()
    def set_standard(self, embeddings: Tensor) -> None:
        """Take mean and standard deviation from the training set, [N, D]."""
        check_training_set(embeddings)
        self.mean.copy_(embeddings.mean())
        self.std.copy_(embeddings.std(correction=0).clamp_min(torch.finfo(self.std.dtype).tiny))

    @torch.no_grad()
    def set_support(self, embeddings: Tensor, labels: Tensor) -> None:
        """Take the training set, [N, D] and int64 [N], as support, classified as the layer does now.

        Raises:
            InputError: No point, labels that are no classes, or embeddings that are not finite.
        """
        check_training_set(embeddings, labels, self.num_classes)
        exemplars, logits = self.adapt(embeddings)
        self.support = exemplars
        self.support_class = torch.where(logits.argmax(1) == labels, labels, WRONG)

    def set_distances(self, nearest: Tensor, labels: Tensor) -> None:
        """Take the points that d compares with: nearest distances [n] and true classes, int64 [n].

        The paper takes the calibration points, and while it trains the training points, each time those with q > 0.
        """
        self.distances.fit(nearest, labels)

    def distance_quantile(self, nearest: Tensor) -> Tensor:
        """Nearest distances [B] to d [B]: the smallest share, over the classes, of distances that are not smaller."""
        counts = self.distances.counts
        farther = (counts - self.distances.smaller(nearest)) / counts.clamp_min(1)
        known = nearest <= torch.finfo(nearest.dtype).max  # false for NaN, which would otherwise be near
        return farther.amin(1).masked_fill(~known, 0.0)

    def measure(self, exemplars: Tensor, predictions: Tensor, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exemplars [B, M] and predictions int64 [B] to q and nearest distance: see :func:`similarity`."""
        return similarity(exemplars, predictions, self.support, self.support_class, self.cap, exclude)

    def forward(self, embeddings: Tensor) -> SDMOutput:
        """Embeddings [B, D] to logits, exemplars, q, d and nearest distance; a large batch is worked off in blocks.

        Raises:
            InputError: Another shape, or no support yet.
        """
        if len(self.support) == 0 or self.distances.values.shape[1] == 0:
            raise InputError("the layer has no support or no distances yet: train it with fit_sdm, or load a state")
        return SDMOutput(*in_blocks(self._one_block, self.entries, embeddings))

    @property
    def entries(self) -> int:
        """How many numbers are compared for one query."""
        return max(len(self.support), self.distances.values.numel())

    def _one_block(self, embeddings: Tensor) -> SDMOutput:
        exemplars, logits = self.adapt(embeddings)
        q, nearest = self.measure(exemplars.detach(), logits.argmax(1))
        return SDMOutput(logits, exemplars, q, self.distance_quantile(nearest), nearest)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        take_shapes(self, ("support", "support_class"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def check_training_set(embeddings: Tensor, labels: Tensor | None = None, num_classes: int = 0) -> None:
    """Refuse embeddings [N, D] and labels [N] that nothing can be learned from.

    Raises:
        InputError: No rows, a value that is not finite, another number of labels, or a label that is no class.
    """
    if embeddings.ndim != 2 or len(embeddings) == 0 or not embeddings.is_floating_point():
        raise InputError(
            f"the embeddings are {embeddings.dtype} {list(embeddings.shape)}, but floating-point [samples, features] "
            "with at least one sample is expected"
        )
    finite = embeddings.isfinite().all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise InputError(f"embedding {row} holds a value that is not finite: leave the sample out or mend it")
    if labels is None:
        return
    if labels.shape != embeddings.shape[:1] or labels.dtype != torch.int64:
        raise InputError(
            f"the labels are {labels.dtype} {list(labels.shape)}, but int64 [{len(embeddings)}] is expected"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise InputError(
            f"the labels run from {int(labels.min())} to {int(labels.max())}, but classes are 0 to {num_classes - 1}"
        )
