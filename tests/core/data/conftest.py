"""A real photo for the tests of image corruptions."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage import data


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """Scikit-image's astronaut, 224x224, RGB."""
    image = cv2.resize(data.astronaut(), (224, 224), interpolation=cv2.INTER_AREA)
    image.flags.writeable = False
    return image
