"""The front: every public name loads, and importing it costs nothing that a program may not need."""

import subprocess
import sys

import robustvision.core.runtime as runtime


def test_every_public_name_loads():
    assert len(runtime.__all__) > 20
    for name in runtime.__all__:
        assert getattr(runtime, name) is not None


def test_the_front_itself_imports_no_library():
    code = """
import sys
import robustvision.core.runtime
print(sorted({"numpy", "cv2", "onnxruntime", "rich", "torch", "typer"} & set(sys.modules)))
from robustvision.core.runtime import open_model
print(sorted({"cv2", "rich", "torch", "typer", "matplotlib", "onnx", "mmengine"} & set(sys.modules)))
from robustvision.core.runtime import *
print(sorted({"rich", "torch", "typer", "matplotlib", "onnx", "mmengine", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n[]\n"


def test_the_limits_of_opencv_are_set_before_it_is_imported():
    code = """
import os
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "16"
from robustvision.core.runtime import read_image
print(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"], os.environ["OPENCV_FFMPEG_LOGLEVEL"])
import cv2, numpy as np
from pathlib import Path
png = bytearray(cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes())
png[16:24] = (20_000).to_bytes(4, "big") * 2
try:
    print(cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_COLOR))
except cv2.error as error:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in ("268435456 16\nrefused\n", "268435456 16\nNone\n")
