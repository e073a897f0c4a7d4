import numpy as np
import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.losses import ArcFaceLoss, CosineHead, SFaceLoss, TripletLoss
from robustvision.face import FaceModel
from robustvision.face.evaluator import VerificationMetric
from robustvision.face.metrics import verification_metrics


class Average(nn.Module):
    """Embeds an image as the mean colours of its left and right half: flips swap the halves."""

    def forward(self, pixels):
        left, right = pixels.chunk(2, dim=3)
        return torch.cat([left.mean((2, 3)), right.mean((2, 3))], dim=1) / 255


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 3, 112, 112), dtype=np.uint8))


def make(loss):
    torch.manual_seed(0)
    return FaceModel(Average(), CosineHead(5, 6), loss)


def test_the_loss_is_that_of_the_cosines(images):
    model, labels = make(SFaceLoss(a=0.5)), torch.tensor([0, 1, 2, 4])
    outputs = model(images, labels, mode="loss")
    cosines = model.head(model.backbone(images.float()))
    torch.testing.assert_close(outputs["loss"], SFaceLoss(a=0.5)(cosines, labels))
    own = cosines.detach().gather(1, labels[:, None]).acos().mean()
    torch.testing.assert_close(outputs["theta_y"], own)
    assert float(outputs["intra_open"]) == float((cosines.gather(1, labels[:, None]).acos() > 0.5).float().mean())


def test_parsed_losses_sum_the_loss_alone(images):
    model = make(SFaceLoss())
    outputs = model(images, torch.tensor([0, 1, 2, 4]), mode="loss")
    total, log = model.parse_losses(outputs)
    torch.testing.assert_close(total, outputs["loss"])
    assert {"intra", "inter", "top1"} <= set(log)


def test_any_loss_over_cosines_can_be_named_as_a_config(images):
    model = FaceModel(Average(), {"type": CosineHead, "num_classes": 5, "embedding_size": 6}, {"type": ArcFaceLoss})
    assert torch.isfinite(model(images, torch.tensor([0, 1, 2, 4]), mode="loss")["loss"])


def test_a_loss_over_pairs_is_refused():
    with pytest.raises(InputError, match=r"model\.loss is TripletLoss, .* needs a loss over classes"):
        make(TripletLoss())


def test_prediction_adds_the_mirror_image_before_any_normalisation(images):
    model = make(SFaceLoss()).eval()
    (first, *_) = model(images, torch.arange(4), mode="predict")
    plain = model(images, mode="tensor")[0]
    torch.testing.assert_close(first["embedding"], plain + plain[[3, 4, 5, 0, 1, 2]])


def test_a_missing_label_is_an_error_that_names_the_mode(images):
    with pytest.raises(InputError, match="predict"):
        make(SFaceLoss())(images, mode="predict")


def test_the_metric_gathers_batches_and_equals_the_function():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 6, 60)
    metric = VerificationMetric(fars=(0.05,))
    metric.dataset_meta = {}
    for start in (0, 25):
        rows = slice(start, 25 if start == 0 else 60)
        metric.process(
            {},
            [
                {"embedding": torch.from_numpy(e), "label": y}
                for e, y in zip(embeddings[rows], labels[rows], strict=True)
            ],
        )
    measured = metric.evaluate(60)
    expected = verification_metrics(embeddings, labels, (0.05,))
    assert measured == pytest.approx({f"val/{name}": value for name, value in expected.items()})
