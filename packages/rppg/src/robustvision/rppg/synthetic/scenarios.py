"""What happens in a film: every amplitude of the generator, as a range from which each film draws its own.

All of them are design choices, tuned only by what `realism` shows: classical methods must find the pulse where they
find it in real films, and lose it in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from robustvision.core.errors import InputError

Range = tuple[float, float]
NONE: Range = (0.0, 0.0)


@dataclass(frozen=True)
class Scenario:
    """Ranges of one scenario; the first eight are there in every film of a living person.

    Attributes:
        sdnn_s: Standard deviation of the intervals between beats at 60 bpm; a fast heart varies less, in proportion.
        reflected: Height of the wave that comes back from the body, relative to the first.
        perfusion: Factor on the amplitude of the pulse that a skin type has.
        sway: Restless head, rms shift in half head heights; its spectrum reaches into the heart's band.
        sway_rad: The same as a turn.
        exposure_noise: Relative rms of the brightness that camera and lamps add, common to the three channels.
        chroma_noise: The same for each channel on its own.
        blink_hz: How often the eyes close.
        yaw_rad: Half-amplitude of turning the head, ``yaw_hz`` how often.
        yaw_hz: See ``yaw_rad``.
        mouth: How far the jaw opens, on the chart of the head; ``mouth_hz`` how often while speaking.
        mouth_hz: See ``mouth``.
        gait: Half-amplitude of the body's bounce in half head heights; ``gait_hz`` steps a second.
        gait_hz: See ``gait``; independent of the heart rate.
        gait_rad: Nodding with the steps.
        gait_light: Relative half-amplitude of the brightness with the steps.
        drift: Relative rms of a slow change of the brightness; ``chroma_drift`` of each channel.
        chroma_drift: See ``drift``.
        exposure_step: Relative size of one jump of the exposure.
        flicker: Relative half-amplitude of the beat between mains and frame rate, ``flicker_hz`` its frequency.
        flicker_hz: See ``flicker``.
        light: Factor on the light.
        gain: Factor on the camera's gain, with its noise.
        incandescence: 0 for daylight, 1 for a warm bulb that the white balance misses.
        full_well_e: Electrons of a native pixel at full scale; ``read_noise_e`` its noise in the dark.
        read_noise_e: See ``full_well_e``.
        jpeg: Quality of the compression; 0 for none.
        has_pulse: Whether a heart beats.
        is_frozen: Whether nothing moves or changes: a photo in front of the camera.
        has_noise: Whether the camera adds noise.
    """

    sdnn_s: Range = (0.02, 0.06)
    reflected: Range = (0.6, 0.85)
    perfusion: Range = (0.6, 1.3)
    sway: Range = (0.004, 0.012)
    sway_rad: Range = (0.004, 0.012)
    exposure_noise: Range = (0.004, 0.014)
    chroma_noise: Range = (0.0001, 0.0005)
    blink_hz: Range = (0.1, 0.4)
    yaw_rad: Range = NONE
    yaw_hz: Range = (0.15, 0.4)
    mouth: Range = NONE
    mouth_hz: Range = (2.0, 4.5)
    gait: Range = NONE
    gait_hz: Range = (1.5, 2.1)
    gait_rad: Range = NONE
    gait_light: Range = NONE
    drift: Range = NONE
    chroma_drift: Range = NONE
    exposure_step: Range = NONE
    flicker: Range = NONE
    flicker_hz: Range = (0.1, 4.0)
    light: Range = (1.0, 1.0)
    gain: Range = (1.0, 1.0)
    incandescence: Range = NONE
    full_well_e: Range = (1500, 6000)
    read_noise_e: Range = (4, 12)
    jpeg: Range = NONE
    has_pulse: bool = True
    is_frozen: bool = False
    has_noise: bool = True


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "still": Scenario(),
        "talk": Scenario(mouth=(0.02, 0.06), sway=(0.01, 0.03), sway_rad=(0.015, 0.045)),
        "rotate": Scenario(yaw_rad=(0.3, 0.7), sway_rad=(0.01, 0.03)),
        "walk": Scenario(gait=(0.01, 0.06), gait_rad=(0.005, 0.03), gait_light=(0.001, 0.015), sway=(0.01, 0.03)),
        "light": Scenario(drift=(0.03, 0.09), chroma_drift=(0.005, 0.03), exposure_step=(0.05, 0.2)),
        "flicker": Scenario(flicker=(0.01, 0.05)),
        "dark": Scenario(light=(0.08, 0.16), gain=(3.0, 5.0)),
        "tint": Scenario(incandescence=(0.6, 1.0)),
        "codec": Scenario(jpeg=(40, 80)),
        "photo": Scenario(has_pulse=False, is_frozen=True),
        "static": Scenario(has_pulse=False, is_frozen=True, has_noise=False),
    }
)
"""The scenarios by name. ``photo`` is a picture of a face before a camera, ``static`` one frame over and over again."""


def scenario(name: str) -> Scenario:
    """Return a scenario by its name.

    Raises:
        InputError: There is none of this name.
    """
    if name not in SCENARIOS:
        raise InputError(f"scenario {name!r} is not known; choose from {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
