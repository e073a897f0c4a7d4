"""Rows of an evaluation by what is known of its samples, and the stamps that say whose rows they are."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from robustvision.core.errors import InputError


class Sample(Protocol):
    """A sample with a name and conditions, such as a clip or a tile."""

    @property
    def name(self) -> str:
        """Its name, for the error message."""
        ...

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What is known of it."""
        ...


def places_by_condition(samples: Sequence[Sample], condition: str = "") -> dict[str, list[int]]:
    """Group samples by one of their conditions.

    Args:
        samples: In any order.
        condition: Its name, such as ``scenario``; empty for all together.

    Returns:
        Value of the condition, as text, to the places of its samples, in the order in which values occur; ``all``
        where no condition is given.

    Raises:
        InputError: A sample does not say the condition.

    Example:
        >>> from types import SimpleNamespace as Sample
        >>> samples = [Sample(name=n, conditions={"light": v}) for n, v in (("a", "dim"), ("b", "day"), ("c", "dim"))]
        >>> places_by_condition(samples, "light")
        {'dim': [0, 2], 'day': [1]}
    """
    groups: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        if condition and condition not in sample.conditions:
            known = ", ".join(sample.conditions) or "nothing"
            raise InputError(f"{sample.name} does not say its {condition}; it says {known}")
        groups.setdefault(str(sample.conditions[condition]) if condition else "all", []).append(place)
    return groups


def predictor_stamps(
    distribution: str, names: Iterable[str], hashes: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Return what every row of a predictor carries: the version of the code and, of a model, its hash.

    Args:
        distribution: The package that measured, such as ``robustvision-rppg``.
        names: The predictors.
        hashes: Name of a predictor to the hash of its model's file; those that are no model have none.
    """
    stamp, known = {"version": importlib.metadata.version(distribution)}, hashes or {}
    return {name: stamp | ({"sha256": known[name]} if name in known else {}) for name in names}
