"""Tiny trees in the layout of real data sets: flat crops whose colour tells which image they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_crop():
    """Write a flat RGB image; 112 x 112 unless said."""

    def write(path: Path, colour=(200, 100, 50), size=(112, 112)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((*size, 3), colour[::-1], np.uint8)
        ok, data = cv2.imencode(path.suffix, image)
        assert ok
        path.write_bytes(data.tobytes())
        return path

    return write


@pytest.fixture
def tree(tmp_path, write_crop):
    """Three identities with 2, 3 and 2 images; the red channel is 10 x label + image."""
    root = tmp_path / "faces"
    for label, (name, count) in enumerate({"ann": 2, "bob": 3, "cid": 2}.items()):
        for image in range(count):
            write_crop(root / name / f"{image}.png", (10 * label + image, 100, 50))
    return root


@pytest.fixture
def face_list(tree):
    """The same images as a list beside the folders."""
    path = tree / "list.txt"
    path.write_text(
        "ann/0.png\t0\nann/1.png\t0\n\n# a remark\nbob/0.png\t1\nbob/1.png\t1\ncid/0.png\t2\ncid/1.png\t2\n"
    )
    return path
