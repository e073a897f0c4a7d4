"""The YuNet network: opening its file safely, and turning its outputs into boxes and landmarks.

It is run by ``cv2.dnn``: the published block-quantised files name a block size for scalar scales, which onnxruntime
refuses at run time, and fix the input to 640x640, which OpenCV does not mind. The decoding is that of
``cv2.FaceDetectorYN`` (to the last bit), written here because that one reads the outputs without looking at their
sizes, and the file may come from a stranger.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from robustvision.core.errors import ModelError
from robustvision.core.runtime.opencv import cv2, quiet_opencv

Floats = npt.NDArray[np.float32]

_STRIDES = (8, 16, 32)
_VALUES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # output to values a cell
_OUTPUTS = [f"{kind}_{stride}" for stride in _STRIDES for kind in _VALUES]
_MOST_CANDIDATES = 5000


class YuNet:
    """An opened network. It keeps the input's size as a state: one call at a time.

    Args:
        path: The ONNX file.

    Raises:
        ModelError: The file is missing, broken, or not YuNet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the face detector {path}: {error.strerror}") from error
        self._input = _check_by_onnxruntime(data, path)
        try:
            with quiet_opencv():
                self._network = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise ModelError(f"{path}: OpenCV {cv2.__version__} cannot read it ({error.err})") from error

    def find(self, bgr: npt.NDArray[np.uint8], score_threshold: float, nms_threshold: float) -> Floats:
        """Find faces at the image's own scale.

        Args:
            bgr: uint8 [H, W, 3], BGR.
            score_threshold: Keep faces with at least this score.
            nms_threshold: Of boxes that overlap more than this, keep the best.

        Returns:
            float32 [N, 15]: left, top, width, height, five landmarks x, y, score; best score first.

        Raises:
            ModelError: The network cannot be run, or its outputs have other sizes than YuNet's.
        """
        height, width = (-(-side // 32) * 32 for side in bgr.shape[:2])
        padded = cv2.copyMakeBorder(bgr, 0, height - bgr.shape[0], 0, width - bgr.shape[1], cv2.BORDER_CONSTANT)
        try:
            with quiet_opencv():
                self._network.setInput(cv2.dnn.blobFromImage(padded), self._input)
                outputs = dict(zip(_OUTPUTS, self._network.forward(_OUTPUTS), strict=True))
        except cv2.error as error:
            raise ModelError(f"{self._path}: OpenCV {cv2.__version__} cannot run it ({error.err})") from error
        rows = np.concatenate([self._decode(outputs, stride, height, width, score_threshold) for stride in _STRIDES])
        boxes = rows[:, :4].astype(np.int32).tolist()  # OpenCV suppresses on whole pixels
        kept = cv2.dnn.NMSBoxes(boxes, rows[:, 14].tolist(), score_threshold, nms_threshold, 1.0, _MOST_CANDIDATES)
        return rows[np.asarray(kept, np.int64).reshape(-1)]

    def _decode(
        self, outputs: dict[str, cv2.typing.MatLike], stride: int, height: int, width: int, threshold: float
    ) -> Floats:
        """The cells of one stride whose score reaches the threshold, as rows."""
        rows, columns = height // stride, width // stride
        for kind, size in _VALUES.items():
            shape = outputs[f"{kind}_{stride}"].shape
            if shape != (1, rows * columns, size):
                raise ModelError(
                    f"{self._path} is not a YuNet face detector: its {kind}_{stride} has the shape {shape}"
                )
        cls, obj, bbox, kps = (outputs[f"{kind}_{stride}"][0] for kind in _VALUES)
        scores = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        # a damaged network gives NaN or places beyond all bounds (sizes are exponents): such cells are no faces
        likely = (scores >= threshold) & (np.abs(bbox) < 10).all(axis=1) & (np.abs(kps) < 1000).all(axis=1)
        cells = np.stack([np.arange(rows * columns) % columns, np.arange(rows * columns) // columns], axis=1)
        cells, bbox, kps = cells[likely].astype(np.float32), bbox[likely], kps[likely]
        centres, sizes = (cells + bbox[:, :2]) * stride, np.exp(bbox[:, 2:]) * stride
        landmarks = (kps.reshape(-1, 5, 2) + cells[:, None]) * stride
        parts = [centres - sizes / 2, sizes, landmarks.reshape(-1, 10), scores[likely, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _check_by_onnxruntime(data: bytes, path: Path) -> str:
    """Open the file by onnxruntime and return the input's name.

    ``cv2.dnn`` reads external weights from wherever a file points; onnxruntime refuses such a file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is opened, never run
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are not public
        raise ModelError(f"{path} is not an ONNX file that onnxruntime can open: {error}") from error
    inputs, outputs = session.get_inputs(), {node.name for node in session.get_outputs()}
    if len(inputs) != 1 or not outputs.issuperset(_OUTPUTS):
        raise ModelError(
            f"{path} is not a YuNet face detector (its outputs are {', '.join(sorted(outputs))}): "
            "give face_detection_yunet_2023mar.onnx or a variant of it"
        )
    return str(inputs[0].name)
