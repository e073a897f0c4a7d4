"""Are the rendered films like real ones, as far as methods without training can tell? Measured, and judged by rules.

The rules stand in `judge`: on still light skin the classical methods come to what the label itself allows, they get
worse in the order that the literature reports, and there is nothing to be found in a photo. That is necessary for a
credible generator and by far not sufficient: no real film was compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.rppg.classical import METHODS
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.metrics import snr_db
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic.source import SyntheticPulse

Floats = npt.NDArray[np.float64]

_NOISE_SEED = 1


@dataclass(frozen=True)
class Setting:
    """Recordings of one kind: a scenario, skin types, and the quality of the JPEG compression, if any."""

    scenario: str
    skin_types: tuple[int, ...]
    jpeg: int | None = None

    @property
    def name(self) -> str:
        """Such as "still, skin 1-2, JPEG 60"."""
        skin = "-".join(str(kind) for kind in sorted({min(self.skin_types), max(self.skin_types)}))
        return f"{self.scenario}, skin {skin}" + (f", JPEG {self.jpeg}" if self.jpeg else "")


SETTINGS: Mapping[str, Setting] = {
    "light skin": Setting("still", (1, 2)),
    "type III": Setting("still", (3,)),
    "type IV": Setting("still", (4,)),
    "type V": Setting("still", (5,)),
    "type VI": Setting("still", (6,)),
    "talk": Setting("talk", (3, 4)),
    "rotate": Setting("rotate", (3, 4)),
    "walk": Setting("walk", (3, 4)),
    "light": Setting("light", (3,)),
    "flicker": Setting("flicker", (3,)),
    "dark": Setting("dark", (3,)),
    "dark, V": Setting("dark", (5,)),
    "tint": Setting("tint", (3,)),
    "codec": Setting("codec", (3,)),
    "JPEG 90": Setting("still", (3,), 90),
    "JPEG 60": Setting("still", (3,), 60),
    "JPEG 30": Setting("still", (3,), 30),
    "photo": Setting("photo", (1, 2, 3)),
}


@dataclass(frozen=True)
class Row:
    """What was measured in one setting.

    Attributes:
        name: Key of `SETTINGS`.
        setting: In words.
        n: Number of recordings.
        errors_bpm: Mean absolute error against the true mean heart rate by method; "label" is the same read-out of the
            true wave, the floor, and "pos (whole crop)" POS without a skin region. Empty for photos.
        standard_errors_bpm: Of these means.
        peaks_db: [n] the power around the peak of POS over the rest of the band.
        rates_bpm: [n] what is read from POS.
    """

    name: str
    setting: str
    n: int
    errors_bpm: dict[str, float]
    standard_errors_bpm: dict[str, float]
    peaks_db: tuple[float, ...]
    rates_bpm: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """A rule, and whether it holds here."""

    rule: str
    holds: bool
    found: str


def measure(
    name: str,
    *,
    n: int = 48,
    seconds: float = 10.0,
    size_px: int = 36,
    seed: int = 0,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Row:
    """Render the recordings of a setting and let the classical methods read them.

    Args:
        name: Key of `SETTINGS`.
        n: Number of recordings, each of another person.
        seconds: Length of each.
        size_px: Side of the crops.
        seed: Seed of the recordings.
        workers: Processes that render.
        cache_dir: Where clips are kept.
        quiet: No progress.

    Returns:
        The measured row.
    """
    setting = SETTINGS[name]
    recordings = SyntheticPulse(
        n,
        scenarios=(setting.scenario,),
        skin_types=setting.skin_types,
        split="test",
        seed=seed,
        seconds=seconds,
        jpeg=setting.jpeg,
    )
    clips = recordings.clips(size_px, workers, cache_dir, quiet)
    waves, fs = _waves(clips), clips[0].fs
    cleaned = {method: FINE_GRID.clean(wave, fs) for method, wave in waves.items()}
    peaks_db, rates = _peaks(cleaned["pos"], fs)
    means, deviations = {}, {}
    if setting.scenario != "photo":
        truth = np.array([clip.conditions["heart_rate_bpm"] for clip in clips], np.float64)
        for method, wave in cleaned.items():
            errors = np.abs(FINE_GRID.heart_rate(wave, fs) - truth)
            means[method], deviations[method] = float(errors.mean()), float(errors.std() / np.sqrt(n))
    return Row(name, setting.name, n, means, deviations, tuple(peaks_db.tolist()), tuple(rates.tolist()))


def _waves(clips: Sequence[Clip]) -> dict[str, Floats]:
    fs = clips[0].fs
    skin = np.stack([clip.traces for clip in clips])
    crops = np.stack([clip.frames.mean(axis=(1, 2)) for clip in clips])
    waves = {"label": np.stack([clip.bvp for clip in clips]).astype(np.float64)}
    waves |= {name: method(skin, fs) for name, method in METHODS.items()}
    return waves | {"pos (whole crop)": METHODS["pos"](crops, fs)}


def _peaks(cleaned: Floats, fs: float) -> tuple[Floats, Floats]:
    rates = FINE_GRID.heart_rate(cleaned, fs)
    return snr_db(cleaned, rates, fs, FINE_GRID.band_hz, refine=True), rates


def noise_peaks_db(count: int, seconds: float, fs: float = 30.0) -> Floats:
    """Return the peaks that POS shows in colours which are nothing but white noise: [count], in dB."""
    rng = np.random.default_rng(_NOISE_SEED)
    traces = 120 + 0.05 * rng.standard_normal((count, round(seconds * fs), 3))
    return _peaks(FINE_GRID.clean(METHODS["pos"](traces, fs), fs), fs)[0]


def judge(rows: Sequence[Row], seconds: float) -> list[Finding]:
    """Apply the rules to the rows of all settings.

    Args:
        rows: One for each of `SETTINGS`.
        seconds: Length of the recordings.

    Returns:
        Each rule with what was found. A rule compares means, so one that holds by less than the standard errors, which
        are named, says little, and so does one that fails by less.
    """
    by_name = {row.name: row for row in rows}
    error = {name: row.errors_bpm for name, row in by_name.items()}
    still = ("light skin", "type III")
    findings = [_near_floor(error[name], name) for name in still]
    for name in still:
        others = {method: error[name][method] for method in METHODS if method != "green"}
        worst = max(others, key=lambda method: others[method])
        text = f"green {error[name]['green']:.1f}, worst of the others {worst} {others[worst]:.1f}"
        findings.append(Finding(f"{name}: GREEN is the worst", error[name]["green"] > others[worst], text))
        rivals = {method: error[name][method] for method in ("pos", "chrom", "ica", "lgi")}
        text = ", ".join(f"{method} {value:.1f}" for method, value in rivals.items())
        holds = max(rivals["pos"], rivals["chrom"]) < min(rivals["ica"], rivals["lgi"])
        findings.append(Finding(f"{name}: POS and CHROM beat ICA and LGI, as reported for UBFC-rPPG", holds, text))
    for harder in ("type VI", "dark, V", "codec", "walk", "talk", "rotate"):
        findings += [_worse(by_name, "type III", harder, method) for method in ("pos", "chrom")]
    for easier, harder in (
        ("type III", "type V"),
        ("type V", "type VI"),
        ("JPEG 90", "JPEG 60"),
        ("JPEG 60", "JPEG 30"),
    ):
        findings.append(_worse(by_name, easier, harder, "pos"))
    for name in ("light", "flicker", "walk", "talk"):
        text = f"pos {error[name]['pos']:.1f}, green {error[name]['green']:.1f}"
        findings.append(Finding(f"{name}: POS beats GREEN", error[name]["pos"] < error[name]["green"], text))
    roi = [name for name in error if error[name] and error[name]["pos"] > error[name]["pos (whole crop)"]]
    findings.append(Finding("a skin region helps POS in every setting", not roi, f"not in: {', '.join(roi) or 'none'}"))
    return findings + _nothing_in_photos(by_name["photo"], by_name["light skin"], seconds)


def _near_floor(error: Mapping[str, float], name: str) -> Finding:
    best = {method: error[method] for method in ("pos", "chrom", "ica", "lgi", "omit")}
    text = f"label {error['label']:.1f}, " + ", ".join(f"{method} {value:.1f}" for method, value in best.items())
    holds = all(value < error["label"] + 3 for value in best.values())
    return Finding(f"{name}, still: POS, CHROM, ICA, LGI and OMIT within 3 bpm of the label's floor", holds, text)


def _worse(rows: Mapping[str, Row], easier: str, harder: str, method: str) -> Finding:
    low, high = (rows[name].errors_bpm[method] for name in (easier, harder))
    low_se, high_se = (rows[name].standard_errors_bpm[method] for name in (easier, harder))
    found = f"{low:.1f} +- {low_se:.1f} and {high:.1f} +- {high_se:.1f}"
    return Finding(f"{method.upper()}: {harder} is harder than {easier}", high > low, found)


def _nothing_in_photos(photo: Row, living: Row, seconds: float) -> list[Finding]:
    noise = np.median(noise_peaks_db(1000, seconds))
    inside, outside = np.array(photo.peaks_db), np.array(living.peaks_db)
    share = float((outside[:, None] > inside).mean())
    return [
        Finding(
            "photo: POS shows no more of a peak than in white noise (median within 1.5 dB)",
            bool(abs(np.median(inside) - noise) < 1.5),
            f"{np.median(inside):.1f} dB in photos, {noise:.1f} dB in noise",
        ),
        Finding(
            "photo: its peak is lower than a living face's in 95 % of pairs", share >= 0.95, f"{100 * share:.1f} %"
        ),
    ]
