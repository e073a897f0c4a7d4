"""Automatic shifts for SFace: ``b`` from what random centres look like, ``a`` from the angles met in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.sface import SFaceLoss


def sface_b_from_null(embedding_size: int, num_classes: int, expected_open: float = 1.0) -> float:
    from scipy.special import betaincinv

    tail = expected_open / (num_classes - 1)
    half = math.asin(math.sqrt(betaincinv((embedding_size - 1) / 2, 0.5, min(2 * tail, 2 - 2 * tail))))
    return half if tail <= 0.5 else math.pi - half


def sface_a_from_angles(theta_y: Tensor, quantile: float = 0.5) -> Tensor:
    return torch.quantile(theta_y.float(), quantile)


class AutoSFaceLoss(SFaceLoss):
    pass
