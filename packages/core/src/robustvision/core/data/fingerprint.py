"""A short hash by which a data set in memory is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def array_fingerprint(settings: object, arrays: Iterable[npt.NDArray[Any] | None]) -> str:
    """Return a hash that changes when a setting or a value does.

    Args:
        settings: What is known by its ``repr``: sizes, rates.
        arrays: The data, in order; None where one is missing.

    Example:
        >>> array_fingerprint(3, [np.zeros(2), None]) == array_fingerprint(3, [None, np.zeros(2)])
        False
    """
    digest = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
