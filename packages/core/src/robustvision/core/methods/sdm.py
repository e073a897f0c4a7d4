"""Training of the SDM layer on embeddings: q and d are measured anew after every epoch, and weigh the next one.

``fit_sdm`` is the whole way: J even random splits into a training and a calibration half; on each, ``train_sdm`` and
``calibrate_sdm``; the run with the most similar calibration points is kept, and the spread over the runs tightens its
thresholds. Everything is by seed, and the caller's random state is left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.sdm_activation import SDMLoss
from robustvision.core.methods.sdm_admission import cauchy_offset, check_alpha
from robustvision.core.methods.sdm_calibration import (
    SDMCalibration,
    calibrate_sdm,
    one_hot,
    similarity_that_counts,
)
from robustvision.core.methods.sdm_head import SDMHead
from robustvision.core.nn.class_ecdf import in_blocks
from robustvision.core.nn.sdm import SDMLayer, check_training_set


@dataclass(frozen=True)
class SDMSettings:
    """How an SDM layer is trained and calibrated; the paper's values where nothing else is said.

    Attributes:
        exemplar_size: M.
        cap: The highest q.
        epochs: Epochs of the layer.
        batch_size: Samples in a step.
        learning_rate: Of Adam. The paper's sentiment experiment takes 1e-5; 1e-3 is for small sets and few epochs.
        alpha: alpha', the accuracy that admitted predictions shall have.
        rescaling_epochs: At most so many epochs of W''.
        rescaling_batch_size: The paper takes 1.
        rescaling_learning_rate: Of Adam.
    """

    exemplar_size: int = 1000
    cap: int = 1000
    epochs: int = 50
    batch_size: int = 50
    learning_rate: float = 1e-3
    alpha: float = 0.95
    rescaling_epochs: int = 1000
    rescaling_batch_size: int = 1
    rescaling_learning_rate: float = 1e-4


@dataclass(frozen=True)
class SDMRun:
    """One of the J runs.

    Attributes:
        median_q: Mean over the classes of the median q on the calibration half, of the epoch that was kept.
        epoch: That epoch, from 1.
        q_min: The run's own q_min; infinity where it found no threshold.
        magnitudes: Median output of the calibration points by predicted class and floor(q~), [K, bins]; NaN for none.
    """

    median_q: float
    epoch: int
    q_min: float
    magnitudes: Tensor


@dataclass(frozen=True)
class SDMFit:
    """The fitted head, and what each run found.

    Attributes:
        head: The best run's head, with q_min and offsets from the spread over the runs.
        runs: All runs.
        best: The number of the best one.
    """

    head: SDMHead
    runs: tuple[SDMRun, ...]
    best: int


def fit_sdm(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    runs: int = 10,
    settings: SDMSettings | None = None,
    seed: int = 0,
) -> SDMFit:
    """Train and calibrate a rejection head on embeddings (or raw features) and their labels.

    Args:
        embeddings: [n, D], floating point, finite. Classes are taken to be about equally frequent.
        labels: Classes, int64 [n].
        num_classes: K.
        runs: J, random even splits and initialisations; with 1 there are no offsets.
        settings: Everything else.
        seed: Of splits, start values and the order of samples.

    Returns:
        The fitted head and the runs.

    Raises:
        InputError: Fewer than 4 samples, values that are not finite, labels that are no classes, or settings
            out of range.

    References:
        arXiv 2502.20167.
    """
    settings = settings or SDMSettings()
    check_training_set(embeddings, labels, num_classes)
    if len(labels) < 4 or runs < 1:
        raise InputError(f"{len(labels)} samples and runs={runs} came, but 4 samples (2 a half) and 1 run are needed")
    check_alpha(settings.alpha)
    found: list[SDMRun] = []
    head, best = None, 0
    for run in range(runs):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed * runs + run))
        train, held_out = (
            (embeddings[rows], labels[rows]) for rows in order.to(labels.device).tensor_split([len(order) // 2])
        )
        new_head, new = _one_run(train, held_out, num_classes, settings, seed * runs + run)
        found.append(new)
        if new.median_q >= found[best].median_q:  # of equals the later, as the authors; one support is held, not J
            head, best = new_head, run
    assert head is not None
    _tighten(head.calibration, found, found[best].q_min, settings.alpha)
    return SDMFit(head, tuple(found), best)


def train_sdm(
    layer: SDMLayer,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    *,
    epochs: int = 50,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> tuple[int, float]:
    """Train a layer, in place, and leave it as it was after its best epoch.

    The first epoch is trained with the softmax. After each, the training set becomes the support, and q and d of the
    training points are measured (each point itself left out, d among the training points with q > 0), then those of
    the calibration points. The best epoch has the highest mean, over the classes, of the median q on calibration.

    Args:
        layer: The layer.
        train: Embeddings [n, D] and labels int64 [n].
        held_out: The calibration set, likewise.
        epochs: At least 1.
        batch_size: Samples in a step.
        learning_rate: Of Adam.
        seed: Of the order of the samples.

    Returns:
        The epoch that was kept, from 1, and its balanced median q.
    """
    if epochs < 1:
        raise InputError(f"epochs is {epochs}: a layer needs at least 1 to have a support")
    embeddings, labels = train
    layer.set_standard(embeddings)
    loss_function = SDMLoss(len(labels)).to(embeddings)
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    shuffle = torch.Generator().manual_seed(seed)
    best_epoch, best_q, best_state = 0, -1.0, layer.state_dict()
    for epoch in range(1, epochs + 1):
        for cpu_rows in torch.randperm(len(labels), generator=shuffle).split(batch_size):
            rows = cpu_rows.to(labels.device)
            loss = loss_function(layer.adapt(embeddings[rows])[1], labels[rows], index=rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss_function.set_state(*_measure_support(layer, embeddings, labels))
        median_q = _measure_held_out(layer, *held_out)
        if median_q >= best_q:
            best_epoch, best_q, best_state = epoch, median_q, copy.deepcopy(layer.state_dict())
    layer.load_state_dict(best_state)
    return best_epoch, best_q


@torch.no_grad()
def _measure_support(layer: SDMLayer, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Make the training set the support; return q and d of its own points."""
    layer.set_support(embeddings, labels)
    exemplars, logits = layer.adapt(embeddings)
    itself = torch.arange(len(labels), device=labels.device)
    q, nearest = in_blocks(layer.measure, len(labels), exemplars, logits.argmax(1), itself)
    return q, _quantiles(layer, q, nearest, labels)


@torch.no_grad()
def _measure_held_out(layer: SDMLayer, embeddings: Tensor, labels: Tensor) -> float:
    """Make the calibration points those that d compares with; return their balanced median q."""
    exemplars, logits = layer.adapt(embeddings)
    q, nearest = in_blocks(layer.measure, len(layer.support), exemplars, logits.argmax(1))
    layer.set_distances(nearest[q > 0], labels[q > 0])
    return sum(float(q[labels == label].quantile(0.5)) for label in labels.unique()) / len(labels.unique())


def _quantiles(layer: SDMLayer, q: Tensor, nearest: Tensor, labels: Tensor) -> Tensor:
    layer.set_distances(nearest[q > 0], labels[q > 0])
    (d,) = in_blocks(lambda block: (layer.distance_quantile(block),), layer.distances.values.numel(), nearest)
    return d


def _one_run(
    train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], num_classes: int, settings: SDMSettings, seed: int
) -> tuple[SDMHead, SDMRun]:
    features = train[0].shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators too, for good
        layer = SDMLayer(features, num_classes, settings.exemplar_size, cap=settings.cap).to(train[0])
    epoch, median_q = train_sdm(
        layer,
        train,
        held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
    )
    layer.requires_grad_(False)
    output, labels = layer(held_out[0]), held_out[1]
    calibration = calibrate_sdm(
        output.logits,
        output.q,
        output.d,
        labels,
        alpha=settings.alpha,
        cap=settings.cap,
        epochs=settings.rescaling_epochs,
        batch_size=settings.rescaling_batch_size,
        learning_rate=settings.rescaling_learning_rate,
        seed=seed,
    )
    magnitudes = _median_magnitudes(calibration, output.logits, output.q, output.d)
    head = SDMHead(layer, calibration).eval()
    return head, SDMRun(median_q, epoch, float(calibration.q_min), magnitudes)


def _median_magnitudes(calibration: SDMCalibration, logits: Tensor, q: Tensor, d: Tensor) -> Tensor:
    """Median output of the predicted class, by predicted class and floor(q~), [K, bins]; NaN for an empty bin."""
    prediction, q = one_hot(logits), similarity_that_counts(q, d)
    q_rescaled, probabilities = calibration.agreed(calibration.ranks(logits, q, d), prediction, q)
    own, bins, classes = (probabilities * prediction).sum(1), q_rescaled.floor(), logits.argmax(1)
    table = torch.full_like(calibration.offsets, torch.nan)
    for label, place in {(int(c), int(b)) for c, b in zip(classes, bins, strict=True)}:
        table[label, place] = own[(classes == label) & (bins == place)].quantile(0.5)
    return table


def _tighten(calibration: SDMCalibration, runs: Sequence[SDMRun], q_min: float, alpha: float) -> None:
    """Raise q_min and set the offsets by the Cauchy quantile of the spread over the runs."""
    calibration.q_min.fill_(q_min + cauchy_offset([run.q_min for run in runs], alpha))
    tables: Any = torch.stack([run.magnitudes for run in runs]).tolist()
    for label, row in enumerate(calibration.offsets):
        for place in range(len(row)):
            values = [table[label][place] for table in tables if table[label][place] == table[label][place]]
            row[place] = cauchy_offset(values, alpha)
