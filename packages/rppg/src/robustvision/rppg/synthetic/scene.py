"""A film: a head with a beating heart before a background, under lamps, through a camera. Rendered in blocks of frames.

The light that a pixel returns is ``I(t) E(x) [gloss + albedo shade (1 - A p(t - tau) m u / u_G)]``, the dichromatic
model. Lamps and field E stand still while the textured head moves under them: motion is no mere change of brightness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.synthetic.camera import Camera
from robustvision.rppg.synthetic.head import Place, View, cast, face_boxes, rotations
from robustvision.rppg.synthetic.light import Light
from robustvision.rppg.synthetic.motion import Motion, gait_phase
from robustvision.rppg.synthetic.paint import CHART_HALF, CHART_PX, Face, sample_chart
from robustvision.rppg.synthetic.pulse import Pulse
from robustvision.rppg.synthetic.scenarios import Scenario
from robustvision.rppg.synthetic.skin import PULSATILITY_RGB, skin_amplitude, to_linear

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

BLOCK = 20
"""Frames that are rendered at once; their arrays fit a core's cache. The noise is drawn by block."""

_METER_PX = 24
_DELAY_S = 0.030  # from the top of the head to the chin
_BACKGROUND_PX = 96
_GLOSS = 0.2
_NO_CAMERA = Camera(exposure=1, gain=1, full_well_e=0, read_noise_e=0, jpeg=0)  # until the light is metered


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that a film shows. Two scenes of equal seeds are equal.

    Attributes:
        time_s: float64 [T], the frames' times.
        pulse: The heart; None where there is none.
        amplitude: Green half-amplitude A of the pulse.
        face, place, motion, light, camera: Who, where, how.
        background: float32 [_BACKGROUND_PX, _BACKGROUND_PX, 3], linear light.
        noise_key: Seed of the camera's noise.
    """

    time_s: Floats
    pulse: Pulse | None
    amplitude: float
    face: Face
    place: Place
    motion: Motion
    light: Light
    camera: Camera
    background: Array
    noise_key: tuple[int, ...]

    @classmethod
    def sample(
        cls,
        key: tuple[int, ...],
        face: Face,
        scenario: Scenario,
        *,
        skin_type: int,
        heart_rate_bpm: float,
        time_s: Floats,
    ) -> Scene:
        """Draw a film of a person.

        Args:
            key: Seed of the film.
            face: The person.
            scenario: What happens.
            skin_type: The person's Fitzpatrick type.
            heart_rate_bpm: Heart rate around which the beats vary.
            time_s: float64 [T], evenly spaced, from 0.

        Returns:
            The scene.
        """
        rng = np.random.default_rng(key)
        place, steps = Place.sample(rng), gait_phase(rng, scenario, time_s)
        motion = Motion.sample(rng, scenario, time_s, steps)
        light = Light.sample(rng, scenario, time_s, steps)
        sdnn_s = rng.uniform(*scenario.sdnn_s) * 60 / heart_rate_bpm
        reflected = rng.uniform(*scenario.reflected)
        pulse = Pulse.sample(rng, heart_rate_bpm, time_s[-1] + 1, sdnn_s=sdnn_s, reflected=reflected)
        scene = cls(
            time_s=time_s,
            pulse=pulse if scenario.has_pulse else None,
            amplitude=skin_amplitude(skin_type) * rng.uniform(*scenario.perfusion),
            face=face,
            place=place,
            motion=motion,
            light=light,
            camera=_NO_CAMERA,
            background=_background(rng),
            noise_key=(*key, 1),
        )
        return replace(scene, camera=Camera.sample(rng, scenario, _metered(scene)))

    @property
    def boxes(self) -> Floats:
        """[T, 4] the face's box in each frame, shares of the frame's side."""
        return face_boxes(self.place, self.motion, self.face.axes)

    def film(self, view: View) -> Iterator[Frames]:
        """Render block after block.

        Args:
            view: What to show.

        Yields:
            uint8 [B, H, W, 3], sRGB.
        """
        face = _softened(self.face, view.pixel / self.place.unit)
        for number, start in enumerate(range(0, len(self.time_s), BLOCK)):
            frames = slice(start, min(start + BLOCK, len(self.time_s)))
            light = self.radiance(view, frames, face)
            yield self.camera.take(light, view.pixel, np.random.default_rng((*self.noise_key, number)))

    def radiance(self, view: View, frames: slice, face: Face | None = None) -> Array:
        """Return the linear light of some frames, float32 [B, H, W, 3]; ``face`` is one softened for the view."""
        face = face or self.face
        x, y = view.axes(frames)
        unit, shift = self.place.unit, self.motion.shift[frames].astype(np.float32)[:, :, None, None]
        head_x = (x - self.place.centre[0]) / unit - shift[:, 0]
        head_y = (y - self.place.centre[1]) / unit - shift[:, 1]
        pixel = view.pixel / unit
        rotation = rotations(self.motion.angles_rad[frames])
        seen = cast(head_x, head_y, rotation, face.axes, pixel)
        wave, slope = self._wave(frames)
        s, t = seen.s, self._with_jaw(seen.s, seen.t, frames)
        colour = self._colour(face, s, t, frames)
        surface = _chart(face.surface, s, t)
        pulsatile = colour[..., 3] * (wave - (np.float32(_DELAY_S / 2) * slope) * seen.down)
        pulsatile *= np.float32(self.amplitude / PULSATILITY_RGB[1])
        key, fill, gloss = self._lamps(surface, rotation)
        behind = self._behind(x, y, head_x, head_y, wave, pixel)
        field = 1 + self.light.slope[0] * (2 * x - 1) + self.light.slope[1] * (2 * y - 1)
        out = np.empty((*s.shape, 3), np.float32)
        for channel in range(3):
            lamps = self.light.colours[:, channel]
            shade = key * lamps[0] + fill * lamps[1] + lamps[2]
            value = colour[..., channel] * (1 - pulsatile * np.float32(PULSATILITY_RGB[channel]))
            value = value * shade + gloss * lamps[0] - behind[..., channel]
            value = value * seen.coverage + behind[..., channel]
            course = self.light.course[frames, channel][:, None, None]
            np.multiply(value, field * course, out=out[..., channel])
        return out

    def _wave(self, frames: slice) -> tuple[Array, Array]:
        """p and its slope at the middle of the face, float32 [B, 1, 1]: over 30 ms, p is as good as straight."""
        if self.pulse is None:
            zero = np.zeros((len(self.time_s[frames]), 1, 1), np.float32)
            return zero, zero
        time_s, step_s = self.time_s[frames] - _DELAY_S / 2, _DELAY_S / 2
        before, middle, after = self.pulse.wave(time_s + step_s * np.array([[-1], [0], [1]]))
        slope = (after - before) / (2 * step_s)
        return middle.astype(np.float32)[:, None, None], slope.astype(np.float32)[:, None, None]

    def _with_jaw(self, s: Array, t: Array, frames: slice) -> Array:
        """Move what lies below the mouth down; the mouth's line is stretched and so opens."""
        jaw = self.motion.jaw[frames].astype(np.float32)[:, None, None]
        if not jaw.any():
            return t
        below = np.clip((t - np.float32(self.face.mouth_t - 0.01)) / (np.float32(0.02) + jaw), 0, 1)
        return np.asarray(t - jaw * below * np.clip(np.float32(2.2) - np.float32(3.3) * abs(s), 0, 1), np.float32)

    def _colour(self, face: Face, s: Array, t: Array, frames: slice) -> Array:
        colour = _chart(face.colour, s, t)
        for index, lids in enumerate(self.motion.lids[frames]):
            if lids > 0.02:
                closed = sample_chart(face.colour_closed, s[index], t[index])
                colour[index] += np.float32(lids) * (closed - colour[index])
        return colour

    def _lamps(self, surface: Array, rotation: Floats) -> tuple[Array, Array, Array]:
        """Diffuse light of the key and the fill lamp, and the key's reflex on greasy skin (Blinn), [B, H, W] each."""
        half = self.light.directions[0] + np.array([0, 0, 1], np.float32)
        world = np.stack([*self.light.directions, half / np.linalg.norm(half)])
        turned = np.einsum("tij,li->ltj", rotation, world).astype(np.float32)[..., None, None]
        n_x, n_y, n_z = surface[..., 0], surface[..., 1], surface[..., 2]
        key, fill, glint = (n_x * to[:, 0] + n_y * to[:, 1] + n_z * to[:, 2] for to in turned)
        np.maximum(glint, 0, out=glint)
        for _ in range(4):  # to the 16th power
            glint *= glint
        return np.maximum(key, 0), np.maximum(fill, 0), glint * (surface[..., 3] * np.float32(_GLOSS))

    def _behind(self, x: Array, y: Array, head_x: Array, head_y: Array, wave: Array, pixel: float) -> Array:
        """Background, which stands still, and neck and shoulders, which go with the head; float32 [B, H, W, 3]."""
        scale, shape = np.float32(_BACKGROUND_PX), np.broadcast_shapes(x.shape, y.shape)
        across = np.broadcast_to(x * scale - np.float32(0.5), shape).reshape(-1, shape[2])
        down = np.broadcast_to(y * scale - np.float32(0.5), shape).reshape(-1, shape[2])
        out = cv2.remap(self.background, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        behind = np.asarray(out, np.float32).reshape(*shape, 3)
        soft = np.float32(1 / pixel)
        lit = np.float32(0.55) * self.light.colours.sum(axis=0)
        pulse = np.float32(0.55 * self.amplitude / PULSATILITY_RGB[1]) * wave[..., None]
        neck = np.clip((np.float32(0.40) - abs(head_x)) * soft + np.float32(0.5), 0, 1) * (head_y > 0.4)
        torso = np.clip((head_y - np.float32(1.05) - np.float32(0.22) * head_x**2) * soft + np.float32(0.5), 0, 1)
        skin = self.face.skin * lit * (1 - pulse * np.array(PULSATILITY_RGB, np.float32))
        behind += neck[..., None] * (skin - behind)
        behind += torso[..., None] * (self.face.cloth * lit - behind)
        return behind


def _metered(scene: Scene) -> float:
    """Mean light of the first frame, or of the face where that is much brighter: cameras protect faces from white."""
    seen = scene.radiance(View.whole(len(scene.time_s), _METER_PX), slice(0, 1))[0]
    x, y, width, height = scene.boxes[0] * _METER_PX
    face = seen[round(y) : round(y + height), round(x) : round(x + width)]
    return max(float(seen.mean()), 0.6 * float(face.mean()))


def _chart(chart: Array, s: Array, t: Array) -> Array:
    """Read a chart at [B, H, W] coordinates; OpenCV takes the frames as one tall picture."""
    return sample_chart(chart, s.reshape(-1, s.shape[2]), t.reshape(-1, s.shape[2])).reshape(*s.shape, 4)


def _softened(face: Face, pixel: float) -> Face:
    """A face whose charts hold no detail finer than a pixel (its side in head units): one sample a pixel is enough."""
    sigma = (
        0.4 * pixel / 2 / (2 * CHART_HALF / CHART_PX)
    )  # at the middle of the face a unit of the chart is 2 units long
    if sigma < 0.3:
        return face
    colour, closed, surface = (
        np.asarray(cv2.GaussianBlur(chart, (0, 0), sigma), np.float32)
        for chart in (face.colour, face.colour_closed, face.surface)
    )
    return replace(face, colour=colour, colour_closed=closed, surface=surface)


def _background(rng: np.random.Generator) -> Array:
    """Draw a room out of focus: a wall, some boxes, a gradient."""
    size = _BACKGROUND_PX
    picture = (
        np.broadcast_to(rng.uniform(0.2, 0.75) * rng.uniform(0.75, 1.0, 3), (size, size, 3)).astype(np.float32).copy()
    )
    for _ in range(rng.integers(3, 9)):
        x, y = rng.uniform(-0.1, 0.9, 2) * size
        width, height = rng.uniform(0.1, 0.5, 2) * size
        colour = rng.uniform(0.05, 0.9) * rng.uniform(0.75, 1.0, 3)
        corner, opposite = (round(x), round(y)), (round(x + width), round(y + height))
        cv2.rectangle(picture, corner, opposite, colour.tolist(), -1)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2.5)), np.float32)
    picture *= 1 + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, size, dtype=np.float32)[:, None, None]
    return to_linear(picture)
