"""Which versions a figure was measured with."""

from __future__ import annotations

import importlib.metadata
import platform

_DISTRIBUTIONS = (
    "robustvision-core",
    "numpy",
    "scipy",
    "torch",
    "torchvision",
    "mmengine",
    "onnxruntime",
    "opencv-python-headless",
)


def library_versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that can change a result, without importing any.

    Returns:
        Distribution name -> version; what is not installed is left out.
    """
    versions = {"python": platform.python_version()}
    for distribution in _DISTRIBUTIONS:
        try:
            versions[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
