"""BatchFormer: a transformer layer along the batch, there while training and gone afterwards."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError


class BatchFormer(nn.Module):
    r"""Let the samples of a batch look at one another while training.

    With one post-norm encoder layer, whose sequence is the batch,

    .. math::
        z = \mathrm{enc}(x_1, \dots, x_B), \qquad \text{out} = [x; z], \qquad \text{labels} = [y; y]

    and what follows, the classifier above all, is shared by both halves; the loss is the mean over the 2B rows. In eval
    the module is the identity, and an exported graph holds no trace of it. Dense features (V2) go through the same
    layer: the tokens of one position look at one another, and never at another position.

    It stands after pooling and before the classifier (V2: between two blocks of the encoder). Of several processes
    each mixes its own batch. The long-tail code of the authors trains the layer at 0.1 times the base learning rate::

        optim_wrapper = dict(..., paramwise_cfg=dict(custom_keys={"batchformer": dict(lr_mult=0.1)}))  # mmengine
        optimizer = SGD([{"params": rest}, {"params": batchformer.parameters(), "lr": 0.1 * lr}], lr=lr)  # torch

    where mmengine takes every parameter whose name holds the key: call the attribute ``batchformer``.

    Args:
        size: C, the features' length; the feed-forward width is C too. The layer has 6 C^2 + 10 C parameters.
        heads: Attention heads; they divide C.
        dropout: Dropout within the layer, in [0, 1].

    Raises:
        InputError: Heads that do not divide the size.

    References:
        Hou et al., "BatchFormer: Learning to Explore Sample Relationships for Robust Representation Learning",
        CVPR 2022, arXiv 2203.01522; "BatchFormerV2: Exploring Sample Relationships for Dense Representation Learning",
        arXiv 2204.01254.

    Example:
        >>> batchformer = BatchFormer(8)
        >>> features, labels = batchformer(torch.randn(3, 8), torch.tensor([2, 0, 1]))
        >>> features.shape, labels
        (torch.Size([6, 8]), tensor([2, 0, 1, 2, 0, 1]))
        >>> batchformer.eval()(torch.ones(1, 8))
        tensor([[1., 1., 1., 1., 1., 1., 1., 1.]])
    """

    def __init__(self, size: int, *, heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        if heads < 1 or size < 1 or size % heads:
            raise InputError(f"features of length {size} cannot be split among {heads} heads: heads must divide size")
        self.size = size
        # Not batch_first: the batch of the network is the sequence of the layer. With batch_first every sample would be
        # a sequence of length 1, and silently see itself alone.
        self.encoder = nn.TransformerEncoderLayer(size, heads, dim_feedforward=size, dropout=dropout)

    @overload
    def forward(self, features: Tensor) -> Tensor: ...

    @overload
    def forward(self, features: Tensor, *labels: Tensor) -> tuple[Tensor, ...]: ...

    def forward(self, features: Tensor, *labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Add the mixed copy of a batch, in training; hand on what came, in eval.

        Args:
            features: One vector a sample, [B, C]; or tokens, [B, T, C].
            labels: Whatever belongs to the samples, [B, ...] each: classes, both classes and the weights of mixup,
                places in the training set.

        Returns:
            The features, followed by the labels where there are any: 2B rows in training, the B that came in eval.

        Raises:
            InputError: Features of another shape, or labels of another batch size.
        """
        if self.training:
            self._check(features, labels)
            features = torch.cat([features, self._mix(features)])
            labels = tuple(torch.cat([label, label]) for label in labels)
        return (features, *labels) if labels else features

    def _mix(self, features: Tensor) -> Tensor:
        if features.shape[0] == 0:
            return features
        tokens = features if features.ndim == 3 else features[:, None, :]
        mixed: Tensor = self.encoder(tokens)
        return mixed if features.ndim == 3 else mixed[:, 0, :]

    def _check(self, features: Tensor, labels: tuple[Tensor, ...]) -> None:
        if features.ndim not in (2, 3) or features.shape[-1] != self.size:
            raise InputError(
                f"the features have shape {list(features.shape)}, but [batch, {self.size}] or "
                f"[batch, tokens, {self.size}] is expected: pool a map [batch, channels, height, width], or make it "
                "tokens by map.flatten(2).transpose(1, 2)"
            )
        for label in labels:
            if label.ndim == 0 or label.shape[0] != features.shape[0]:
                raise InputError(
                    f"a label has shape {list(label.shape)}, but the batch has {features.shape[0]} samples: pass what "
                    "holds one entry a sample"
                )
