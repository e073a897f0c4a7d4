"""Five landmarks to an aligned face crop: numpy and OpenCV only, since the edge pipeline and the readers share it.

The crop is what every network of this package sees: a least-squares similarity (rotation, scale, shift; never a
reflection) takes the five points to a fixed template, then one bilinear warp with a black border. Upside-down faces
are legal, they are a rotation. What cannot give a face is refused here, because the warp itself would silently return
a black or garbage crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

LANDMARK_NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The order of the five points, left and right as they lie in the picture of an upright face."""

TEMPLATE_112: npt.NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where the five points come to lie in the 112 x 112 crop, [5, 2] as x, y in pixels."""
TEMPLATE_112.setflags(write=False)

TINY_EYE_DISTANCE_PX = 10.0
"""Below this the template's 35 px between the eyes are mostly invented: a face of about 20 px."""

_SWAPPED = -0.2  # overlap of the eyes in units of the way down to the mouth; a frontal face has 0.87, a profile about 0


@dataclass(frozen=True)
class FaceGeometry:
    """What five landmarks say about a face before it is aligned.

    Attributes:
        eye_distance_px: Distance between the eyes in pixels.
        roll_rad: In-plane rotation in radians, -pi to pi, 0 for an upright face, positive when turned clockwise.
        scale: Crop pixels for one image pixel; above 1 the face is enlarged.
        points_inside: How many of the five points lie in the image.
    """

    eye_distance_px: float
    roll_rad: float
    scale: float
    points_inside: int

    @property
    def is_tiny(self) -> bool:
        """Whether there are too few pixels to trust: legal, but an application should say so."""
        return self.eye_distance_px < TINY_EYE_DISTANCE_PX

    @property
    def is_upside_down(self) -> bool:
        """Whether the face stands on its head (turned by more than 135 degrees)."""
        return abs(self.roll_rad) > 0.75 * math.pi


def template(size: int = 112) -> npt.NDArray[np.float64]:
    """Return the five target points for a square crop.

    Args:
        size: Side of the crop in pixels, a multiple of 112 (the template is scaled) or of 128 (it is also centred:
            a 128 crop shows 8 px more on each side).

    Returns:
        [5, 2] float64, x and y in pixels, in the order of ``LANDMARK_NAMES``.

    Raises:
        InputError: For any other size.

    >>> template(224)[0].round(4).tolist()
    [76.5892, 103.3926]
    """
    if size > 0 and size % 112 == 0:
        return TEMPLATE_112 * (size / 112)
    if size > 0 and size % 128 == 0:
        return TEMPLATE_112 * (size / 128) + np.array([8 * size / 128, 0.0])
    raise InputError(f"a crop of {size} px is not known: use a multiple of 112 or of 128")


def similarity_transform(landmarks: npt.ArrayLike, size: int = 112) -> npt.NDArray[np.float64]:
    """Return the least-squares similarity that takes landmarks to the template, without reflection.

    With points as complex numbers, centred s (landmarks) and d (template), the minimiser of sum |d - a s|^2 is
    a = sum d conj(s) / sum |s|^2: rotation and scale at once. It equals the SVD form with its sign correction.

    Args:
        landmarks: [5, 2] or [N, 5, 2], x and y in pixels, in the order of ``LANDMARK_NAMES``.
        size: Side of the crop in pixels, see ``template``.

    Returns:
        [2, 3] or [N, 2, 3] float64 for ``cv2.warpAffine``: image to crop.

    Raises:
        InputError: For another shape, values that are not finite, or points that all coincide.

    References:
        Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 1991.
    """
    points = _five_points(landmarks)
    source = points[..., 0] + 1j * points[..., 1]
    target = _template_complex(size)
    source_mean, target_mean = source.mean(-1), target.mean()
    source = source - source_mean[..., None]
    spread = np.square(source.real).sum(-1) + np.square(source.imag).sum(-1)
    a = (np.conj(source) @ (target - target_mean)) / np.maximum(spread, np.finfo(np.float64).tiny)
    if np.any(spread < 1e-6 * (1 + abs(source_mean))) or np.any(abs(a) < 1e-9):
        raise InputError("the five landmarks coincide or cancel out, so they give no rotation and scale: detect again")
    b = target_mean - a * source_mean
    matrix = np.empty((*points.shape[:-2], 2, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = a.real
    matrix[..., 0, 1], matrix[..., 1, 0] = -a.imag, a.imag
    matrix[..., 0, 2], matrix[..., 1, 2] = b.real, b.imag
    return matrix


def inspect_landmarks(landmarks: npt.ArrayLike, image_size: tuple[int, int]) -> FaceGeometry:
    """Measure a face by its landmarks and refuse those that cannot be one in this image.

    Args:
        landmarks: [5, 2], x and y in pixels.
        image_size: Height and width of the image in pixels.

    Returns:
        The geometry; ``is_tiny`` and ``is_upside_down`` are for the caller to report.

    Raises:
        InputError: For another shape or values that are not finite, points that coincide, a face whose five points all
            lie outside the image or whose centre lies outside, and left and right in mirrored order.
    """
    points = _five_points(landmarks)
    return _inspect(points, similarity_transform(points), image_size)


def align_face(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: int = 112) -> npt.NDArray[np.uint8]:
    """Cut the face out of an image, upright and at the template's scale.

    Args:
        image: [H, W, 3] uint8, RGB (the crop keeps whatever order comes).
        landmarks: [5, 2], x and y in pixels (centre of the first pixel at 0), in the order of ``LANDMARK_NAMES``,
            left and right as seen when the face is upright. A detector's rows of ten numbers must be reshaped.
        size: Side of the crop in pixels, a multiple of 112 or 128.

    Returns:
        [size, size, 3] uint8, black where the crop leaves the image.

    Raises:
        InputError: For an image of another kind, and for landmarks that ``inspect_landmarks`` refuses.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"the image is {came}; expected uint8 [H, W, 3]: read it with core.runtime.read_image")
    points = _five_points(landmarks)
    if points.ndim != 2:
        raise InputError(f"align_face takes the landmarks of one face, [5, 2]; got {points.shape}: loop over the faces")
    matrix = similarity_transform(points, size)
    _inspect(points, matrix, image.shape[:2])
    from robustvision.core.runtime.opencv import cv2  # a tenth of the start, which callers with crops never need

    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def five_from_68(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Reduce the 68-point annotation to the five points: eyes from their corners, nose tip, mouth corners.

    Args:
        landmarks: [68, 2] or [N, 68, 2], x and y in pixels, in the iBUG order (counted from 0).

    Returns:
        [5, 2] or [N, 5, 2] float64.

    Raises:
        InputError: For another shape.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim not in (2, 3) or points.shape[-2:] != (68, 2):
        raise InputError(f"expected landmarks [68, 2] or [N, 68, 2], got {points.shape}")
    left_eye, right_eye = points[..., [36, 39], :].mean(-2), points[..., [42, 45], :].mean(-2)
    return np.stack([left_eye, right_eye, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)


def _five_points(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    points: npt.NDArray[Any] = np.asarray(landmarks)
    if points.ndim not in (2, 3) or points.shape[-2:] != (5, 2):
        raise InputError(f"expected five landmarks as [5, 2] or [N, 5, 2], got {points.shape}")
    try:
        points = points.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"landmarks must be numbers: {error}") from None
    if not np.isfinite(points).all():
        raise InputError("landmarks hold NaN or infinity: the detector failed on this face, drop it")
    return points


def _template_complex(size: int) -> npt.NDArray[np.complex128]:
    points = template(size)
    return points[:, 0] + 1j * points[:, 1]


def _inspect(
    points: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64], image_size: tuple[int, int]
) -> FaceGeometry:
    """Plain floats here: five points are too few for numpy to pay."""
    height, width = image_size
    (lx, ly), (rx, ry), _, (mlx, mly), (mrx, mry) = listed = points.tolist()
    inside = sum(-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5 for x, y in listed)
    centre_x, centre_y = sum(x for x, _ in listed) / 5, sum(y for _, y in listed) / 5
    if inside == 0 or not (-0.5 <= centre_x <= width - 0.5 and -0.5 <= centre_y <= height - 0.5):
        raise InputError(
            f"the face is centred at ({centre_x:.0f}, {centre_y:.0f}), outside the image of {width} x {height} px: "
            "are the landmarks from another size of it?"
        )
    down_x, down_y = (mlx + mrx - lx - rx) / 2, (mly + mry - ly - ry) / 2
    for name, across_x, across_y in (("eyes", rx - lx, ry - ly), ("mouth corners", mrx - mlx, mry - mly)):
        if across_x * down_y - across_y * down_x < _SWAPPED * (down_x**2 + down_y**2):
            raise InputError(
                f"the {name} are in mirrored order: give the one first that is left in the upright picture of the face"
            )
    a, b = matrix[1, 1], matrix[1, 0]
    return FaceGeometry(
        eye_distance_px=math.hypot(rx - lx, ry - ly),
        roll_rad=math.atan2(-b, a),
        scale=math.hypot(a, b),
        points_inside=inside,
    )
