"""The edge half of face recognition: a photo in, an embedding or a decision out, from an ONNX file, without torch.

A photo passes ``FaceDetector`` (boxes and five landmarks), ``align_face`` (a 112x112 crop in the template's frame) and
the graph (one embedding). Callers that have landmarks or crops of their own enter where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.session import open_model
from robustvision.face.alignment import align_face
from robustvision.face.contract import TASK

if TYPE_CHECKING:
    from robustvision.core.runtime.faces import FaceDetector

SHIPPED_MODEL = "sface_small.onnx"

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """How alike two faces are, and what the threshold makes of it.

    Attributes:
        cosine: Cosine of the two embeddings, in [-1, 1].
        distance: Euclidean distance of the two unit vectors, sqrt(2 - 2 cosine), in [0, 2].
        threshold: The cosine above which two faces count as one person.
        same_person: Whether they do.
    """

    cosine: float
    distance: float
    threshold: float
    same_person: bool


@dataclass(frozen=True)
class RecognizedFace:
    """One face of a photo.

    Attributes:
        box_xywh: [4] left, top, width and height in pixels of the photo.
        landmarks: [5, 2] image-left eye, image-right eye, nose, image-left and image-right mouth corner, in pixels.
        score: The detector's confidence, in [0, 1].
        embedding: [d] unit vector.
    """

    box_xywh: Float32
    landmarks: Float32
    score: float
    embedding: Float32


class FaceRecognizer:
    """Recognises faces with an exported model.

    Args:
        model: The ONNX file.
        detector: Finds faces where the caller gives no landmarks; by default one over the YuNet file of the extra
            ``detector``, made when it is first needed.
        providers: onnxruntime's execution providers; the best available where None.
        threads: Threads of one call; the cores of the machine where None.

    Raises:
        ModelError: The file is broken, or not a face recognition model.

    Example:
        >>> recognizer = FaceRecognizer.synthetic()
        >>> crops = np.zeros((2, 112, 112, 3), np.uint8)
        >>> recognizer.embed(crops).shape
        (2, 128)
    """

    def __init__(
        self,
        model: str | Path,
        *,
        detector: FaceDetector | None = None,
        providers: list[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.model = open_model(model, task=TASK, providers=providers, threads=threads)
        self._graph = self.model.main
        spec = self._graph.spec
        shape = spec.inputs[0].shape
        if len(spec.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise ModelError(f"{model} takes {spec.inputs}, but a face model takes one input [batch, 3, size, size]")
        self.size = int(shape[2])
        self._takes_batches = not isinstance(shape[0], int)  # OpenCV's published file takes one crop a call
        self._detector = detector

    @classmethod
    def synthetic(cls, **options: Any) -> FaceRecognizer:
        """Open the small model that ships with the package.

        It was trained on rendered faces alone: it shows that everything works, and recognises no real person.

        Args:
            **options: As for the class.
        """
        import importlib.resources

        with importlib.resources.as_file(importlib.resources.files("robustvision.face.models") / SHIPPED_MODEL) as path:
            return cls(path, **options)

    @property
    def threshold(self) -> float:
        """The first calibrated cosine threshold of the model's manifest.

        Raises:
            InputError: The model was never calibrated.
        """
        for threshold in self.model.manifest.thresholds:
            if threshold.score == "cosine":
                return threshold.value
        raise InputError(
            f"{self.model.path} carries no calibrated threshold: give one (threshold=, --threshold), or calibrate it: "
            f"robustvision-face evaluate --model {self.model.path} --data VALIDATION --calibrate"
        )

    @property
    def detector(self) -> FaceDetector:
        """The face detector."""
        if self._detector is None:
            from robustvision.core.runtime.faces import FaceDetector  # callers with landmarks never need it

            self._detector = FaceDetector()
        return self._detector

    def align(self, image: UInt8, landmarks: npt.ArrayLike | None = None) -> UInt8:
        """Cut a face out of a photo, in the pose that the model was trained on.

        Args:
            image: [H, W, 3] RGB uint8.
            landmarks: [5, 2] in pixels; those of the largest face that the detector finds where None.

        Returns:
            [size, size, 3] RGB uint8.

        Raises:
            InputError: No face is found, or the landmarks are degenerate.
        """
        if landmarks is None:
            faces = self.detector.detect(image)
            if not len(faces):
                raise InputError(
                    f"no face found in the image of {image.shape[1]}x{image.shape[0]} px: pass a photo in which the "
                    "face is upright and at least 20 px wide, or give its landmarks"
                )
            landmarks = faces.largest().landmarks
        return align_face(image, landmarks, self.size)

    def embed(self, image: UInt8, landmarks: npt.ArrayLike | None = None) -> Float32:
        """Embed aligned crops, or one face of a photo.

        Args:
            image: A crop [size, size, 3], crops [N, size, size, 3], or with ``landmarks`` a photo [H, W, 3]; RGB uint8.
            landmarks: [5, 2] in pixels of the photo; None says that ``image`` is aligned already.

        Returns:
            [d] or [N, d] unit vectors.

        Raises:
            InputError: The image is of another shape or type, or the landmarks are degenerate.
        """
        crops = _array(image if landmarks is None else align_face(image, landmarks, self.size))
        is_crop = crops.ndim in (3, 4) and crops.shape[-3:] == (self.size, self.size, 3)
        if crops.dtype != np.uint8 or not is_crop or not crops.size:
            raise InputError(
                f"got an image {crops.shape} of {crops.dtype}, but the model takes aligned RGB uint8 crops "
                f"[{self.size}, {self.size}, 3], or [N, ...] of them: call align() first, or give landmarks"
            )
        batch = np.ascontiguousarray(np.moveaxis(crops.reshape(-1, self.size, self.size, 3), 3, 1), dtype=np.float32)
        if self._takes_batches or len(batch) == 1:
            (raw,) = self._graph(batch)
        else:
            raw = np.concatenate([self._graph(crop[None])[0] for crop in batch])
        norms = np.sqrt(np.einsum("nd,nd->n", raw, raw))
        if not norms.min() > 0:
            raise InputError(f"crop {int(np.argmin(norms))} has an embedding of length {norms.min()}: it shows nothing")
        unit: Float32 = raw / norms[:, None]
        return unit[0] if crops.ndim == 3 else unit

    def recognize(self, image: UInt8) -> list[RecognizedFace]:
        """Find and embed every face of a photo, the best one first.

        Args:
            image: [H, W, 3] RGB uint8.

        Returns:
            The faces; empty where none is found.
        """
        faces = self.detector.detect(image)
        if not len(faces):
            return []
        embeddings = self.embed(np.stack([align_face(image, points, self.size) for points in faces.landmarks]))
        return [
            RecognizedFace(box_xywh=box, landmarks=points, score=float(score), embedding=embedding)
            for box, points, score, embedding in zip(
                faces.boxes_xywh, faces.landmarks, faces.scores, embeddings, strict=True
            )
        ]

    def compare(self, first: npt.ArrayLike, second: npt.ArrayLike, *, threshold: float | None = None) -> Comparison:
        """Decide whether two embeddings are of one person.

        Args:
            first: [d], of any length but zero.
            second: [d], likewise; neither array is changed.
            threshold: The cosine above which they are; the model's calibrated one where None.

        Raises:
            InputError: The shapes differ, a vector is zero or not finite, or there is no threshold.
        """
        a, b = (_array(vector) for vector in (first, second))
        if not (np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)):
            raise InputError(f"got embeddings of {a.dtype} and {b.dtype}: compare takes two vectors of numbers")
        a, b = a.astype(np.float64), b.astype(np.float64)
        if a.ndim != 1 or a.shape != b.shape:
            raise InputError(f"got embeddings {a.shape} and {b.shape}: compare takes two vectors of one model")
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        if not (np.isfinite(lengths) and lengths > 0):
            raise InputError("an embedding is zero or not finite: it cannot be compared")
        cosine = float(np.clip(a @ b / lengths, -1.0, 1.0))
        limit = self.threshold if threshold is None else threshold
        if not -1 <= limit <= 1:
            raise InputError(f"the threshold is {limit}, but it is a cosine: give a number from -1 to 1")
        return Comparison(cosine, float(np.sqrt(2 - 2 * cosine)), limit, cosine > limit)


def _array(values: object) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise InputError(f"got values that make no array ({error}): they must be of one size") from error
