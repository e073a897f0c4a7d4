"""The model that ships: trained on rendered films alone, so that the pipeline runs at once. See ``CARD.md``.

``python -m robustvision.rppg.models`` (or ``make models``) trains it again.
"""

from __future__ import annotations

from pathlib import Path

SHIPPED_MODEL = "rppg_small"


def shipped_model() -> Path:
    """Return the folder of the shipped model."""
    return Path(__file__).with_name(SHIPPED_MODEL)
