import numpy as np
import pytest

from robustvision.core.data import array_fingerprint


@pytest.mark.parametrize(
    "other",
    [
        (8, [np.arange(6), None]),
        (7, [np.arange(6) + np.eye(1, 6)[0].astype(int), None]),
        (7, [np.arange(6), np.zeros(1, np.uint8)]),
        (7, [None, np.arange(6)]),
    ],
)
def test_a_fingerprint_sees_settings_values_and_what_is_missing(other):
    assert array_fingerprint(7, [np.arange(6), None]) != array_fingerprint(*other)


def test_a_fingerprint_sees_values_and_not_their_place_in_memory():
    array = np.arange(12).reshape(3, 4)
    assert array_fingerprint("", [array.T]) == array_fingerprint("", [np.ascontiguousarray(array.T)])
