"""What face recognition is measured by, on embeddings of identities that training never saw. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.evaluation import equal_error_rate, roc_auc, tar_at_far

MAX_IMAGES = 20_000  # 200 million pairs: 0.8 GB of scores
BLOCK = 512

Float32 = npt.NDArray[np.float32]


def pair_scores(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Float32, Float32]:
    """Score every pair of different images once, by cosine.

    Args:
        embeddings: [N, d], of any length but zero.
        labels: [N] identity of each image.

    Returns:
        Scores of the genuine and of the impostor pairs.

    Raises:
        InputError: The shapes disagree, a vector is zero or not finite, one kind of pair is missing, or there are more
            images than memory allows.

    Example:
        >>> genuine, impostor = pair_scores([[1, 0], [2, 0], [0, 1]], [7, 7, 8])
        >>> genuine.tolist(), impostor.tolist()
        ([1.0], [0.0, 0.0])
    """
    vectors, ids = np.asarray(embeddings, dtype=np.float32), np.asarray(labels)
    if vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
        raise InputError(f"got embeddings {vectors.shape} and labels {ids.shape}, expected [N, d] and [N]")
    if len(vectors) > MAX_IMAGES:
        raise InputError(f"{len(vectors)} images make too many pairs: pass at most {MAX_IMAGES}, or a list of pairs")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise InputError(f"embedding {int(np.argmin(np.nan_to_num(norms)))} is zero or not finite")
    unit = vectors / norms
    genuine, impostor = [], []
    for start in range(0, len(unit), BLOCK):
        rows = slice(start, min(start + BLOCK, len(unit)))
        scores = unit[rows] @ unit[start:].T
        later = np.triu(np.ones(scores.shape, dtype=bool), 1)
        same = ids[rows, None] == ids[None, start:]
        genuine.append(scores[later & same])
        impostor.append(scores[later & ~same])
    result = np.concatenate(genuine), np.concatenate(impostor)
    for kind, scores in zip(("of one identity", "of two identities"), result, strict=True):
        if not scores.size:
            raise InputError(f"there is no pair {kind} among {len(unit)} images of {len(set(ids.tolist()))} identities")
    return result


def genuine_identities(labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return whose each genuine score of ``pair_scores`` is, in the same order; bootstraps resample identities by it.

    Args:
        labels: [N] identity of each image.

    Example:
        >>> genuine_identities([7, 8, 7, 8]).tolist()
        [7, 8]
    """
    ids = np.asarray(labels)
    owners = []
    for start in range(0, len(ids), BLOCK):
        rows = ids[start : start + BLOCK, None]
        same = np.triu(rows == ids[None, start:], 1)
        owners.append(np.broadcast_to(rows, same.shape)[same])
    return np.concatenate(owners)


def verification_metrics(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, fars: Sequence[float] = (1e-2, 1e-3)
) -> dict[str, float]:
    """Measure verification over all pairs.

    Args:
        embeddings: [N, d], of any length but zero.
        labels: [N] identity of each image.
        fars: False accept rates at which to read the true accept rate.

    Returns:
        ``tar@far=...`` and ``threshold@far=...`` (a cosine) for each rate, ``auc`` and ``eer``. A rate below the
        smallest measurable one gives NaN, and a warning.

    Raises:
        InputError: As for ``pair_scores``.
    """
    return score_metrics(*pair_scores(embeddings, labels), fars)


def score_metrics(
    genuine: npt.ArrayLike, impostor: npt.ArrayLike, fars: Sequence[float] = (1e-2, 1e-3)
) -> dict[str, float]:
    """Measure verification from the scores of pairs, as ``verification_metrics`` does from embeddings.

    Args:
        genuine: Scores of pairs of one identity.
        impostor: Scores of pairs of two identities.
        fars: False accept rates at which to read the true accept rate.

    Returns:
        As for ``verification_metrics``.
    """
    metrics: dict[str, float] = {}
    for far in fars:
        point = tar_at_far(genuine, impostor, far)
        metrics[f"tar@far={far:g}"] = point.tar
        metrics[f"threshold@far={far:g}"] = point.threshold
    return {**metrics, "auc": roc_auc(genuine, impostor), "eer": equal_error_rate(genuine, impostor).rate}
