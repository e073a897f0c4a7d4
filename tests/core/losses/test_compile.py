"""The losses that remember, contrast or work on cosines go through torch.compile whole, like those over logits."""

import pytest
import torch

from robustvision.core import losses

COSINES = torch.linspace(-0.9, 0.9, 40).view(8, 5)
OTHER = COSINES.flip(0).roll(2, 1)
CLASSES, PLACES = torch.arange(8) % 5, torch.arange(8)

CASES = {
    "SogCLR": (lambda: losses.SogCLRLoss(20), (COSINES, OTHER), PLACES),
    "iSogCLR": (lambda: losses.ISogCLRLoss(20), (COSINES, OTHER), PLACES),
    "bimodal iSogCLR": (lambda: losses.BimodalISogCLRLoss(20), (COSINES, OTHER), PLACES),
    "NT-Xent": (losses.NTXentLoss, (COSINES, OTHER), None),
    "InfoNCE": (losses.InfoNCELoss, (COSINES, OTHER), None),
    "SDM": (lambda: losses.SDMLoss(20), (COSINES, CLASSES), PLACES),
    "truncated GCE, remembering": (lambda: losses.TruncatedGCELoss(num_samples=20), (COSINES, CLASSES), PLACES),
    "SFace": (losses.SFaceLoss, (COSINES, CLASSES), None),
    "ArcFace": (losses.ArcFaceLoss, (COSINES, CLASSES), None),
    "filtered CosFace": (lambda: losses.CombinedMarginLoss(filter_above=0.4), (COSINES, CLASSES), None),
    "hashing": (losses.HashingLoss, (COSINES, CLASSES), None),
    "DRO": (lambda: losses.SampleDRO(losses.CrossEntropyLoss(reduction="none"), lam=1.0), (COSINES, CLASSES), None),
}


@pytest.mark.parametrize(("make", "inputs", "index"), CASES.values(), ids=CASES.keys())
def test_no_graph_break(make, inputs, index):
    known = {} if index is None else {"index": index}
    plain, loss = make(), make()
    torch._dynamo.reset()
    compiled = torch.compile(lambda *inputs: loss(*inputs, **known), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs), plain(*inputs, **known))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(loss.state_dict()[name], value, msg=name)
