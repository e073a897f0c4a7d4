"""The camera: exposure, shot and read noise, the sRGB curve, compression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.synthetic.scenarios import Scenario

Array = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]

NATIVE_PX = 480
"""Side of the frame of the camera that is simulated; a rendered pixel gathers the light of all those it covers."""

_LEVELS = 1 << 14
_CODEC_SCALE = 2  # blocks of 8 pixels lie on a face as on one of twice the rendered size


def _srgb_table() -> Frames:
    linear = (np.arange(_LEVELS) + 0.5) / _LEVELS
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


_SRGB = _srgb_table()


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        exposure: Share of the full scale that a light of 1 gives.
        gain: Factor behind the sensor, on signal and noise.
        full_well_e: Electrons of a native pixel at full scale before the gain; 0 for no noise.
        read_noise_e: Electrons rms of a native pixel.
        jpeg: Quality of the compression, 0 for none.
    """

    exposure: float
    gain: float
    full_well_e: float
    read_noise_e: float
    jpeg: int

    @classmethod
    def sample(cls, rng: np.random.Generator, scenario: Scenario, metered: float) -> Camera:
        """Draw a camera that exposes a scene of a mean light for its middle grey, give or take.

        Args:
            rng: Source of randomness.
            scenario: The ranges.
            metered: Mean linear light of the scene as it would be in full light.
        """
        exposure = rng.uniform(0.16, 0.26) / max(metered, 1e-6) * rng.uniform(*scenario.light)
        full_well_e = rng.uniform(*scenario.full_well_e) if scenario.has_noise else 0.0
        gain, read_noise_e = rng.uniform(*scenario.gain), rng.uniform(*scenario.read_noise_e)
        return cls(float(exposure), float(gain), full_well_e, read_noise_e, round(rng.uniform(*scenario.jpeg)))

    def take(self, light: Array, pixel: float, rng: np.random.Generator) -> Frames:
        """Take frames.

        Args:
            light: float32 [..., H, W, 3], linear; overwritten.
            pixel: Side of a rendered pixel as a share of the frame.
            rng: Source of the noise.

        Returns:
            uint8 of the same shape, sRGB.
        """
        light *= np.float32(self.exposure)
        if self.full_well_e:
            gathered = (NATIVE_PX * pixel) ** 2 * self.full_well_e
            variance = np.maximum(light, 0) * np.float32(1 / gathered)
            variance += np.float32((self.read_noise_e / self.full_well_e) ** 2 / (NATIVE_PX * pixel) ** 2)
            np.sqrt(variance, out=variance)
            variance *= rng.standard_normal(light.shape, dtype=np.float32)
            light += variance
        light *= np.float32(self.gain * _LEVELS)
        np.clip(light, 0, _LEVELS - 1, out=light)
        frames: Frames = _SRGB.take(light.astype(np.uint16))
        return through_jpeg(frames, self.jpeg) if self.jpeg else frames


def through_jpeg(frames: Frames, quality: int) -> Frames:
    """Compress each frame of uint8 [T, H, W, 3] as MJPEG does (4:2:0), and read it back."""
    height, width = frames.shape[1:3]
    out = np.empty_like(frames)
    for index, frame in enumerate(frames):
        large = cv2.resize(frame, (width * _CODEC_SCALE, height * _CODEC_SCALE), interpolation=cv2.INTER_LINEAR)
        # OpenCV takes RGB for BGR here and gives it back so: only the weights of luma would differ, so swap
        _, stored = cv2.imencode(".jpg", large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1]
        out[index] = cv2.resize(np.ascontiguousarray(decoded), (width, height), interpolation=cv2.INTER_AREA)
    return out
