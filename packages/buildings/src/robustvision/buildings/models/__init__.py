"""The model that ships: trained on rendered scenes alone, so that the pipeline runs at once. See ``CARD.md``.

``python -m robustvision.buildings.models`` (or ``make models``) trains it again.
"""

from __future__ import annotations

from pathlib import Path

SHIPPED_MODEL = "buildings_small"


def shipped_model() -> Path:
    """Return the file of the shipped model."""
    return Path(__file__).with_name(f"{SHIPPED_MODEL}.onnx")
