"""How well a ranking by distance finds samples of the query's class, with numpy alone.

``recall_at`` and ``map_at_r`` judge a matrix of distances, each sample in turn being the query for all others;
``hamming_mean_average_precision`` judges binary codes of queries against those of a database.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

_ENTRIES_AT_ONCE = 4_000_000


def recall_at(distances: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """The share of samples that have one of their class among their k nearest others (Recall@k of metric learning).

    Args:
        distances: ``[N, N]``; row i is the query, of which entry i itself is left out. It need not be symmetric.
        labels: ``[N]``. A sample that is alone in its class counts as a miss.
        k: How many neighbours, 1 to N - 1.

    Returns:
        0 to 1.

    Raises:
        InputError: Shapes that do not fit, distances that are not numbers, or another k.

    Example:
        >>> distances = [[0, 1, 3], [1, 0, 2], [3, 2, 0]]
        >>> recall_at(distances, [0, 1, 0], k=1), round(recall_at(distances, [0, 1, 0], k=2), 3)
        (0.0, 0.667)
    """
    relevant, _ = _ranked_by_distance(distances, labels)
    if not 1 <= k <= relevant.shape[1]:
        raise InputError(f"k is {k}, but each query has {relevant.shape[1]} others: take 1 to that")
    return float(relevant[:, :k].any(axis=1).mean())


def map_at_r(distances: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean average precision at R, R being how many others there are of the query's class.

    ``1/R sum_{i <= R} P(i) rel(i)``, with P(i) the precision among the first i. It is 1 only if the R nearest are all
    of the class, and unlike Recall@1 it sees the whole class.

    Args:
        distances: ``[N, N]``; row i is the query, of which entry i itself is left out.
        labels: ``[N]``. A sample that is alone in its class is no query.

    Returns:
        0 to 1.

    Raises:
        InputError: Shapes that do not fit, distances that are not numbers, or no class with two samples.

    References:
        Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, arXiv 2003.08505, section 3.2.

    Example:
        >>> map_at_r([[0, 1, 3, 4], [1, 0, 2, 5], [3, 2, 0, 1], [4, 5, 1, 0]], [0, 0, 0, 1])
        0.75
    """
    relevant, of_class = _ranked_by_distance(distances, labels)
    if not of_class.any():
        raise InputError("no class has two samples: there is nothing to find")
    places = np.arange(1, relevant.shape[1] + 1)
    counted = relevant & (places <= of_class[:, None])
    precision = np.cumsum(counted, axis=1) / places
    queries = of_class > 0
    return float(((precision * counted).sum(axis=1)[queries] / of_class[queries]).mean())


def hamming_mean_average_precision(
    query_codes: npt.ArrayLike, query_labels: npt.ArrayLike, codes: npt.ArrayLike, labels: npt.ArrayLike
) -> float:
    """Mean average precision of ranking a database by the Hamming distance to each query.

    Codes of D bits have only D + 1 distances, so most of a ranking is ties. All entries at one distance share the
    precision among those up to it: the result does not depend on the order of the database (scikit-learn's
    ``average_precision_score`` does the same).

    Args:
        query_codes: Bits, bool or 0/1, ``[Q, D]``.
        query_labels: ``[Q]``. A query without an entry of its class is left out.
        codes: Bits of the database, ``[N, D]``.
        labels: ``[N]``.

    Returns:
        0 to 1.

    Raises:
        InputError: Shapes that do not fit, codes that are not bits, or no query with an entry of its class.

    Example:
        >>> codes = [[0, 0], [0, 1], [1, 1]]
        >>> round(hamming_mean_average_precision([[0, 0]], [1], codes, [0, 1, 1]), 4)  # hits at places 2 and 3
        0.5833
    """
    query_bits, bits = _bits(query_codes, "query codes"), _bits(codes, "codes")
    query_label, label = np.asarray(query_labels), np.asarray(labels)
    if query_bits.shape[1] != bits.shape[1]:
        raise InputError(f"the query codes have {query_bits.shape[1]} bits, but the database's {bits.shape[1]}")
    if query_label.shape != query_bits.shape[:1] or label.shape != bits.shape[:1]:
        raise InputError(
            f"{len(query_bits)} query codes with labels {query_label.shape}, {len(bits)} codes with labels "
            f"{label.shape}: expected one label a code"
        )
    at_once = max(1, _ENTRIES_AT_ONCE // max(1, len(bits)))
    precisions = [
        _average_precisions(query_bits[start : start + at_once], query_label[start : start + at_once], bits, label)
        for start in range(0, len(query_bits), at_once)
    ]
    found = np.concatenate(precisions) if precisions else np.empty(0)
    if not found.size:
        raise InputError("no query has an entry of its class in the database: there is nothing to find")
    return float(found.mean())


def _average_precisions(
    query_bits: npt.NDArray[np.float32],
    query_label: npt.NDArray[np.generic],
    bits: npt.NDArray[np.float32],
    label: npt.NDArray[np.generic],
) -> npt.NDArray[np.float64]:
    """Of those queries that have an entry of their class, by counting hits at every distance."""
    queries, levels = len(query_bits), bits.shape[1] + 1
    # |a - b| of bits is a + b - 2ab; whole numbers below 2^24 are exact in float32
    distance = query_bits.sum(1)[:, None] + bits.sum(1) - 2 * (query_bits @ bits.T)
    cell = (distance.astype(np.int64) + levels * np.arange(queries)[:, None]).ravel()
    relevant = (query_label[:, None] == label).ravel()
    entries = np.bincount(cell, minlength=queries * levels).reshape(queries, levels)
    hits = np.bincount(cell[relevant], minlength=queries * levels).reshape(queries, levels)
    precision = hits.cumsum(1) / np.maximum(entries.cumsum(1), 1)
    total = hits.sum(1)
    findable = total > 0
    return (precision * hits).sum(1)[findable] / total[findable]


def _ranked_by_distance(
    distances: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Whether each sample's others are of its class, nearest first, [N, N - 1]; and how many are, [N]."""
    matrix, label = np.array(distances, dtype=np.float64), np.asarray(labels)
    size = label.size
    if label.ndim != 1 or matrix.shape != (size, size) or size < 2:
        raise InputError(
            f"distances {matrix.shape} and labels {label.shape}: expected [N, N] and [N], with at least 2 samples"
        )
    if np.isnan(matrix).any():
        raise InputError("the distances hold NaN: find out what the network made of its input")
    others = ~np.eye(size, dtype=bool)
    nearest = np.argsort(matrix[others].reshape(size, size - 1), axis=1, kind="stable")
    same = (label[:, None] == label)[others].reshape(size, size - 1)
    return np.take_along_axis(same, nearest, axis=1), same.sum(axis=1)


def _bits(codes: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    bits = np.asarray(codes)
    if bits.ndim != 2 or not np.isin(bits, (0, 1)).all():
        raise InputError(f"the {name} are {bits.dtype} {bits.shape}: expected bits of 0 and 1, [N, D]")
    return bits.astype(np.float32)
