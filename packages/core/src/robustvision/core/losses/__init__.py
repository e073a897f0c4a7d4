"""Robust losses: every loss is a pure function and a thin module, and knows no domain.

Losses over classes take ``loss(logits, target, *, index=None, weight=None)``. All go the way of ``batch``: check, one
value a sample, weigh and reduce; those with sums over all classes through ``rows``. ``-1`` as a label means "no class
known": the sample is ignored. A loss that remembers samples keeps them in a ``SampleState``.

``cross_entropy``, ``gce``, ``distances``, ``normalized``, ``asymmetric``, ``active_passive``, ``multiclass_margin`` and
``bi_tempered`` hold the known losses for wrong labels; ``comp_sum`` a family with its guarantees; ``ldr`` and ``aldr``
the label distributionally robust losses, which rest on ``dro``. The margin family (``margin``, ``sface``,
``sface_auto``) works on the cosines of a ``CosineHead``; ``hypersphere`` bounds its softmax; ``sdm_activation`` is a
softmax that knows how far its input lies from the training data.

Losses over pairs take ``loss(embeddings, labels)``: ``pair_losses`` over any of ``pair_distances``, with pairs chosen
by ``pair_mining``, beside ``embedding_penalties`` and ``hashing``. ``contrastive`` (on ``anchors``) and ``info_nce``
take two views of a batch.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
