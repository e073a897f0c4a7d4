"""The settings and the result of an adaptation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.training.hooks.gradual import GRADUAL_FACTORS

Method = Literal["noisy-only", "clean-only", "mixed", "oracle", "sda", "gradual", "kd", "dml"]
METHODS: tuple[Method, ...] = get_args(Method)
RESULT = "adaptation.json"


@dataclass(frozen=True)
class AdaptationOptions:
    """How long and how an adaptation trains.

    Attributes:
        noisy_epochs: Epochs on the large noisy set.
        clean_epochs: Epochs on the small clean set.
        noisy_steps_per_epoch: Gradient steps an epoch on the noisy set; None: as many as its samples give.
        clean_steps_per_epoch: Likewise on the clean set.
        learning_rate: Of all training from scratch; None keeps the recipe's.
        rate_ratio: The learning rate of fine-tuning, as a part of that.
        schedule: ``cosine``: a tenth of the steps climbs linearly, the rest goes down to 0. ``constant``: as published.
        freeze: What fine-tuning leaves as it is, for ``sda``: see :class:`.FreezeHook`.
        levels: The network's parts from the output side, for ``gradual``: see :class:`.GradualUnfreezeHook`.
        patience: Validations without a better one that end a phase, for ``gradual``.
        factors: Learning rates of the phases, for ``gradual``.
        slanted: Slanted triangular rates, for ``gradual``.
        alpha: The teacher's part, for ``kd`` [R].
        temperature: For ``kd`` [R].
        teacher: The teacher's model config, for ``kd``; None: the recipe's model.
        mutual_weight: Weight of the other network's outputs, for ``dml``.
        alternating: The order of the original, for ``dml``.
    """

    noisy_epochs: int = 10
    clean_epochs: int = 10
    noisy_steps_per_epoch: int | None = None
    clean_steps_per_epoch: int | None = None
    learning_rate: float | None = None
    rate_ratio: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    freeze: str | tuple[str, ...] | None = None
    levels: Sequence[Sequence[str]] = ()
    patience: int = 5
    factors: Sequence[float] | None = GRADUAL_FACTORS
    slanted: bool = False
    alpha: float = 0.5
    temperature: float = 2.0
    teacher: Mapping[str, Any] | None = None
    mutual_weight: float = 1.0
    alternating: bool = False

    def __post_init__(self) -> None:
        counts = (self.noisy_epochs, self.clean_epochs, self.noisy_steps_per_epoch, self.clean_steps_per_epoch)
        if any(count is not None and count < 1 for count in counts):
            raise InputError(f"epochs and steps an epoch are {counts}: expected at least 1 of each")
        if not self.rate_ratio > 0 or (self.learning_rate is not None and not self.learning_rate > 0):
            raise InputError(f"learning_rate {self.learning_rate}, rate_ratio {self.rate_ratio}: expected above 0")
        if self.schedule not in ("cosine", "constant"):
            raise InputError(f"schedule is {self.schedule!r}: expected 'cosine' or 'constant'")


@dataclass(frozen=True)
class AdaptationResult:
    """What an adaptation left behind.

    Attributes:
        method: Its name.
        weights: The state dict of the adapted ``network`` at its best validation, for :func:`.load_weights`.
        clean_steps: Gradient steps on clean labels; of ``mixed``, the clean samples' share of all steps.
        total_steps: All gradient steps, those of the pre-training or the teacher included, shared or not.
        metrics: The best validation's; empty where nothing was trained or the recipe has no validation.
        best_step: The step of the last stage at which it was.
        work_dir: The folder, with a run's folder for each stage.
    """

    method: Method
    weights: Path
    clean_steps: int
    total_steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    best_step: int | None = None
    work_dir: Path = Path()

    def write(self) -> None:
        """Write it into its folder, by paths that stay right when the folder moves."""
        content = {
            "method": self.method,
            "weights": self.weights.name,
            "clean_steps": self.clean_steps,
            "total_steps": self.total_steps,
            "metrics": dict(self.metrics),
            "best_step": self.best_step,
        }
        with write_atomically(self.work_dir / RESULT) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_adaptation(work_dir: str | Path) -> AdaptationResult | None:
    """Read the result of a finished adaptation.

    Args:
        work_dir: Its folder.

    Returns:
        The result; None where there is none yet.
    """
    folder = Path(work_dir)
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return AdaptationResult(**{**content, "weights": folder / content["weights"], "work_dir": folder})
