"""The memory of a live estimator: the last minute on the time grid, in arrays of fixed size."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


class Ring(Generic[T]):
    """The last ``keep`` rows of an endless array, always one piece of memory.

    Rows are written into an array of twice the length; when it is full, the newest half moves to the front.

    Args:
        keep: Rows to remember.
        shape: Shape of a row.
        dtype: Type of its entries.
    """

    def __init__(self, keep: int, shape: tuple[int, ...], dtype: type[T]) -> None:
        self._keep = keep
        self._rows: npt.NDArray[T] = np.empty((2 * keep, *shape), dtype)
        self._end = 0

    def append(self, row: Any) -> None:
        """Add one row; the oldest is forgotten."""
        if self._end == len(self._rows):
            self._rows[: self._keep] = self._rows[self._keep :]
            self._end = self._keep
        self._rows[self._end] = row
        self._end += 1

    def last(self, count: int | None = None) -> npt.NDArray[T]:
        """Return the newest rows, oldest first: a view, which can be written to and changes with the next `append`."""
        available = min(self._end, self._keep)
        return self._rows[self._end - min(available, self._keep if count is None else count) : self._end]


class OverlapAdd:
    """Joins overlapping windows of a wave: each is z-scored and weighted by a Hann window, the sum by the weights.

    Args:
        length: Samples of a window.
    """

    def __init__(self, length: int) -> None:
        # without its zero ends, so that the first and last sample of a film count as well
        self._weights = np.hanning(length + 2)[1:-1]

    def add(self, window: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]) -> None:
        """Add a window to the rows of weighted sum and weight that it covers.

        Args:
            window: [L] float64.
            rows: [L, 2], changed in place.
        """
        centred = window - window.mean()
        deviation = centred.std()
        rows[:, 0] += self._weights * (centred / deviation if deviation > 1e-12 else 0.0)
        rows[:, 1] += self._weights
