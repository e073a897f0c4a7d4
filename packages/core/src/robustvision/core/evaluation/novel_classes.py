"""Classes that training never saw: recognition by a few supports, with numpy alone.

Every class is represented by its prototype, the direction of the mean of its supports' directions, and a query belongs
to the class whose prototype has the largest cosine with it. A network that was trained on base classes is judged twice:
``disjoint``, where only the novel classes compete, and ``joint``, where base and novel ones do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .intervals import Interval, wilson_interval

SHORTEST = 1e-12
"""A sum of unit vectors shorter than this share of their number has no direction."""

NO_CLASS = -1
"""What an embedding without a direction is recognised as: nothing, which is never right."""


@dataclass(frozen=True)
class Prototypes:
    """One direction a class.

    Attributes:
        classes: ``[K]`` int64, ascending.
        directions: ``[K, d]`` float64 of length 1; zeros where the supports of a class cancel out or have no direction.
            Such a class is never recognised.
    """

    classes: npt.NDArray[np.int64]
    directions: npt.NDArray[np.float64]


@dataclass(frozen=True)
class NovelClassAccuracy:
    """Shares of right queries, with Wilson's 95 % intervals.

    The intervals are about the draw of the queries only. How much the draw of the supports matters shows when it is
    repeated with other seeds.

    Attributes:
        disjoint: Queries of novel classes, where only novel classes compete.
        joint: All queries, where all classes compete.
        joint_base: Its part of base queries; None without one.
        joint_novel: Its part of novel queries.
        per_class_disjoint: Class to accuracy; None for a class without queries.
        per_class_joint: The same, where all classes compete.
    """

    disjoint: Interval
    joint: Interval
    joint_base: Interval | None
    joint_novel: Interval
    per_class_disjoint: dict[int, Interval | None]
    per_class_joint: dict[int, Interval | None]


def few_shot_supports(labels: npt.ArrayLike, classes: Iterable[int], shots: int, seed: int) -> npt.NDArray[np.bool_]:
    """Draw the same number of supports of each class.

    Args:
        labels: Class of each sample, integer ``[N]``.
        classes: The classes to draw from.
        shots: Supports a class, at least 1.
        seed: Seed; the same one gives the same supports, whatever the order of ``classes``.

    Returns:
        Which samples are supports, bool ``[N]``.

    Raises:
        InputError: If a class has fewer samples than ``shots``.

    Example:
        >>> labels = np.array([0, 1, 1, 2, 2, 2])
        >>> supports = few_shot_supports(labels, classes=(1, 2), shots=2, seed=0)
        >>> np.bincount(labels[supports])
        array([0, 2, 2])
    """
    label = _labels(labels, "labels")
    if shots < 1:
        raise InputError(f"shots is {shots}: a class needs at least 1 support")
    rng = np.random.default_rng(seed)
    chosen = np.zeros(label.size, dtype=np.bool_)
    for one in sorted({int(c) for c in classes}):
        members = np.flatnonzero(label == one)
        if members.size < shots:
            raise InputError(
                f"class {one} has {members.size} samples, but {shots} supports were asked for: lower shots or leave "
                "the class out"
            )
        chosen[rng.permutation(members)[:shots]] = True
    return chosen


def class_prototypes(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Prototypes:
    """The normalised mean of the normalised embeddings of each class.

    Args:
        embeddings: ``[N, d]``, finite, of any length; one without a length counts for nothing.
        labels: Integer ``[N]``.

    Returns:
        One direction for each class that occurs.

    Raises:
        InputError: If shapes do not fit, there is no sample, or a value is not finite.

    Example:
        >>> prototypes = class_prototypes([[1, 0], [0, 5], [0, -2]], [3, 3, 7])
        >>> prototypes.classes, prototypes.directions.round(4)
        (array([3, 7]), array([[ 0.7071,  0.7071], [ 0.    , -1.    ]]))
    """
    directions, label = _directions_and_labels(embeddings, labels, "supports")
    classes, membership = np.unique(label, return_inverse=True)
    sums = np.zeros((classes.size, directions.shape[1]))
    np.add.at(sums, membership, directions)
    # Directions that cancel leave rounding behind, which would become a direction by normalising.
    cancelled = np.linalg.norm(sums, axis=1) <= SHORTEST * np.bincount(membership)
    sums[cancelled] = 0.0
    return Prototypes(classes, _normalised(sums))


def nearest_prototype(embeddings: npt.ArrayLike, prototypes: Prototypes) -> npt.NDArray[np.int64]:
    """The class with the largest cosine.

    Args:
        embeddings: ``[N, d]``, finite, of any length.
        prototypes: The classes that compete.

    Returns:
        int64 ``[N]``: a class, the smallest among equals; ``NO_CLASS`` (-1) for an embedding without a length, or where
        no class has a direction.

    Raises:
        InputError: If shapes do not fit, or a value is not finite.

    Example:
        >>> prototypes = class_prototypes([[1, 0], [0, 1]], [3, 7])
        >>> nearest_prototype([[5, 1], [-1, 0], [0, 0]], prototypes)
        array([ 3,  7, -1])
    """
    queries = _normalised(_matrix(embeddings, "queries"))
    if queries.shape[1] != prototypes.directions.shape[1]:
        raise InputError(
            f"the queries have {queries.shape[1]} dimensions, but the prototypes {prototypes.directions.shape[1]}: "
            "embed both with the same network"
        )
    usable = prototypes.directions.any(axis=1)
    if not usable.any():
        return np.full(len(queries), NO_CLASS, dtype=np.int64)
    nearest = prototypes.classes[usable][np.argmax(queries @ prototypes.directions[usable].T, axis=1)]
    return np.where(queries.any(axis=1), nearest, NO_CLASS)


def novel_class_accuracy(
    support_embeddings: npt.ArrayLike,
    support_labels: npt.ArrayLike,
    query_embeddings: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    novel: Iterable[int],
) -> NovelClassAccuracy:
    """Accuracy on classes that training never saw, alone and together with the base classes.

    Args:
        support_embeddings: ``[S, d]``, finite: a few of each novel class, and any number of each base class (such as
            training samples).
        support_labels: Integer ``[S]``, not negative.
        query_embeddings: ``[N, d]``, finite; none of them may be a support.
        query_labels: Integer ``[N]``; each must occur among the supports.
        novel: The classes that training did not see; all other classes are base classes.

    Returns:
        The accuracies. A class without queries competes all the same.

    Raises:
        InputError: If shapes do not fit, a value is not finite, a novel class has no support, a query's class has none,
            a label is negative, or there is no query of a novel class.

    References:
        Pereira et al., "Hyperspherical embedding for novel class classification", arXiv 2102.03243: disjoint and joint.

    Example:
        >>> supports, labels = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 1, 2]
        >>> queries = [[3, 1, 0], [1, 2, 0], [2, 1, 1.5]]  # the last is nearer to class 0 than to its own
        >>> result = novel_class_accuracy(supports, labels, queries, [0, 1, 2], novel=(1, 2))
        >>> result.disjoint.estimate, round(result.joint.estimate, 2), result.joint_novel.estimate
        (1.0, 0.67, 0.5)
    """
    prototypes = class_prototypes(support_embeddings, support_labels)
    queries, label = _directions_and_labels(query_embeddings, query_labels, "queries")
    wanted = np.array(sorted({int(c) for c in novel}), dtype=np.int64)
    _check_classes(prototypes.classes, label, wanted)
    is_novel = np.isin(label, wanted)
    competing = np.isin(prototypes.classes, wanted)
    among_novel = Prototypes(prototypes.classes[competing], prototypes.directions[competing])
    disjoint = nearest_prototype(queries[is_novel], among_novel) == label[is_novel]
    joint = nearest_prototype(queries, prototypes) == label
    return NovelClassAccuracy(
        disjoint=_share(disjoint),
        joint=_share(joint),
        joint_base=_share(joint[~is_novel]) if not is_novel.all() else None,
        joint_novel=_share(joint[is_novel]),
        per_class_disjoint=_per_class(disjoint, label[is_novel], wanted),
        per_class_joint=_per_class(joint, label, prototypes.classes),
    )


def _check_classes(
    supported: npt.NDArray[np.int64], queried: npt.NDArray[np.int64], novel: npt.NDArray[np.int64]
) -> None:
    if supported[0] < 0:
        raise InputError(f"the supports hold the label {supported[0]}: classes are numbered from 0")
    for what, classes in (("novel", novel), ("query", queried)):
        missing = np.setdiff1d(classes, supported)
        if missing.size:
            raise InputError(f"no support of the {what} classes {missing.tolist()}: give at least one of each")
    if not np.isin(queried, novel).any():
        raise InputError(f"no query is of a novel class ({novel.tolist()}): there is nothing to measure")


def _per_class(
    right: npt.NDArray[np.bool_], label: npt.NDArray[np.int64], classes: npt.NDArray[np.int64]
) -> dict[int, Interval | None]:
    return {int(one): _share(right[label == one]) if (label == one).any() else None for one in classes}


def _share(right: npt.NDArray[np.bool_]) -> Interval:
    return wilson_interval(int(np.count_nonzero(right)), right.size)


def _directions_and_labels(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, name: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    matrix, label = _matrix(embeddings, name), _labels(labels, f"labels of the {name}")
    if len(matrix) != label.size or not label.size:
        raise InputError(f"{len(matrix)} {name} and {label.size} labels: expected one label each, and at least one")
    return _normalised(matrix), label


def _matrix(embeddings: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    matrix = np.asarray(embeddings, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise InputError(f"the {name} have shape {matrix.shape}: expected embeddings [N, d]")
    broken = len(matrix) - np.count_nonzero(np.isfinite(matrix).all(axis=1))
    if broken:
        raise InputError(f"{broken} of {len(matrix)} {name} are not finite: find out what the network made of them")
    return matrix


def _labels(labels: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    label = np.asarray(labels)
    if label.ndim != 1 or not (np.issubdtype(label.dtype, np.integer) or not label.size):
        raise InputError(f"the {name} are {label.dtype} {label.shape}: expected whole numbers [N]")
    return label.astype(np.int64)


def _normalised(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows of length 1; zeros stay. By the largest entry first, so that squares neither overflow nor vanish."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
