import json

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.face import cli
from robustvision.face.predict import predict_photos


def run(*args):
    with pytest.raises(SystemExit) as stop:
        cli.run(cli.app, [str(arg) for arg in args])
    return stop.value.code


@pytest.fixture
def photo(write_image, astronaut):
    return write_image("photo.png", astronaut)


def test_one_bad_photo_does_not_lose_the_others(photo, tmp_path, capsys):
    torn = tmp_path / "torn.png"
    torn.write_bytes(photo.read_bytes()[:5000])
    assert run("predict", photo, torn, "--json") == 2
    first, second = json.loads(capsys.readouterr().out)["photos"]
    assert len(first["faces"]) == 1
    assert "torn.png" in second["error"]


def test_pictures_never_overwrite_each_other_or_a_photo(photo, tmp_path, astronaut, write_image):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "photo.png"
    twin.write_bytes(photo.read_bytes())
    with pytest.raises(InputError, match="would overwrite"):
        predict_photos([photo, twin], out=tmp_path / "found")
    own = write_image("photo.png_faces.png", astronaut)
    with pytest.raises(InputError, match="would overwrite"):
        predict_photos([photo, own], out=tmp_path)


def test_an_out_that_is_a_file_is_refused_before_any_work(photo, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(InputError, match="cannot make the folder"):
            predict_photos([photo], out=out)


@pytest.mark.parametrize("threshold", [float("nan"), 5.0, -1.5])
def test_a_threshold_that_is_no_cosine_is_refused(photo, threshold):
    with pytest.raises(InputError, match="cosine"):
        predict_photos([photo], reference=photo, threshold=threshold)
    with pytest.raises(InputError, match="--reference"):
        predict_photos([photo], threshold=threshold)


def test_a_reference_without_a_face_is_refused(photo, write_image):
    empty = write_image("empty.png", np.full((200, 300, 3), 100, np.uint8))
    with pytest.raises(InputError, match="shows no face"):
        predict_photos([photo], reference=empty)
