"""What every loss refuses, and what the message says."""

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    arcface_loss,
    combined_margin_loss,
    cosface_loss,
    normalized_softmax_loss,
    sface_diagnostics,
    sface_loss,
)

LOSSES = [normalized_softmax_loss, cosface_loss, arcface_loss, combined_margin_loss, sface_loss]
border = pytest.mark.parametrize("function", [*LOSSES, sface_diagnostics])


@border
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 12]), "labels hold 12, but the head has 10 classes: pass num_classes=13"),
        (torch.tensor([0, 10]), "num_classes=11"),
        (torch.tensor([0, -2]), "labels hold -2, but only -1"),
        (torch.tensor([0.0, 1.0]), r"float32 \[2\], but integer class indices"),
        (torch.tensor([True, False]), r"bool \[2\], but integer"),
        (torch.tensor([0, 1, 2]), r"int64 \[3\], but one index for each of 2 samples"),
        (torch.tensor([[0, 1]]), r"int64 \[1, 2\], but one index"),
        (torch.tensor(0), r"int64 \[\], but one index"),
    ],
)
def test_bad_labels_are_refused(function, labels, message):
    with pytest.raises(InputError, match=message):
        function(torch.zeros(2, 10), labels)


@border
@pytest.mark.parametrize(
    ("cosines", "message"),
    [
        (torch.zeros(2), r"float32 \[2\], but a floating-point \[batch, classes\]"),
        (torch.zeros(2, 3, 4), r"\[2, 3, 4\]"),
        (torch.zeros(2, 3, dtype=torch.long), "int64"),
        (torch.zeros(2, 0), "no classes"),
    ],
)
def test_bad_cosines_are_refused(function, cosines, message):
    with pytest.raises(InputError, match=message):
        function(cosines, torch.tensor([0, 1]))


@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_reduction_is_refused(loss):
    with pytest.raises(InputError, match="'batchmean'"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]), reduction="batchmean")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_any_integer_labels_are_taken(loss, dtype):
    cosines = torch.linspace(-0.9, 0.9, 6).view(2, 3)
    assert torch.equal(loss(cosines, torch.tensor([2, 1], dtype=dtype)), loss(cosines, torch.tensor([2, 1])))
