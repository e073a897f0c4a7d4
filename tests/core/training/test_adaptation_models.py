"""Distilled and mutual models: the same as plain training where they must be, and gradients where they belong."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, log_softmax, softmax

from robustvision.core.errors import InputError
from robustvision.core.training import DistilledModel, MutualModel, read_checkpoint, train


@pytest.fixture
def teacher(adaptation_toy, tmp_path):
    """The weights of a point network, and its model."""
    torch.manual_seed(11)
    model = adaptation_toy.PointModel(width=5)
    model.network.encoder[1].running_mean.fill_(0.3)
    torch.save(model.network.state_dict(), tmp_path / "teacher.pth")
    return model, tmp_path / "teacher.pth"


def points(adaptation_toy, size=8, seed=0):
    return torch.utils.data.default_collate([adaptation_toy.Blobs(size, seed=seed)[0, index] for index in range(size)])


def recipe(toy, model, epochs=2):
    made = toy.recipe()
    made["model"] = model
    made["train_dataloader"]["dataset"] = toy.Blobs(40)
    made["train_cfg"] = {"max_epochs": epochs}
    return made


def plain_state(path, prefix):
    state = read_checkpoint(path)["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def test_without_a_teachers_part_it_is_plain_training_to_the_last_bit(adaptation_toy, tmp_path, teacher, assert_same):
    student = {"type": adaptation_toy.PointModel}
    distilled = {
        "type": DistilledModel,
        "student": student,
        "teacher": {"type": adaptation_toy.PointModel, "width": 5},
        "teacher_checkpoint": str(teacher[1]),
        "alpha": 0.0,
        "temperature": 1.0,
    }
    one = train(recipe(adaptation_toy, student), work_dir=tmp_path / "plain", seed=3, quiet=True)
    two = train(recipe(adaptation_toy, distilled), work_dir=tmp_path / "kd", seed=3, quiet=True)
    assert_same(plain_state(one.last_checkpoint, ""), plain_state(two.last_checkpoint, "student."))
    assert one.metrics == two.metrics
    distilled = {**distilled, "alpha": 0.5}
    three = train(recipe(adaptation_toy, distilled), work_dir=tmp_path / "half", seed=3, quiet=True)
    name = "network.head.weight"
    assert not torch.equal(
        plain_state(three.last_checkpoint, "student.")[name], plain_state(one.last_checkpoint, "")[name]
    )
    taught = plain_state(three.last_checkpoint, "teacher.")
    assert_same(taught, dict(teacher[0].network.state_dict()))


def test_distilled_loss_and_gradient_by_hand(adaptation_toy, teacher):
    student = adaptation_toy.PointModel(dropout=0.0)
    model = DistilledModel(student, adaptation_toy.PointModel(width=5), teacher[1], alpha=0.3, temperature=4.0).train()
    batch = points(adaptation_toy)
    got = model(**batch, mode="loss")
    got["loss"].backward()
    gradient = student.network.head.weight.grad.clone()
    student.zero_grad()
    logits = student.network(batch["image"])
    with torch.no_grad():
        target = teacher[0].eval().network(batch["image"])
    divergence = kl_div(log_softmax(logits / 4, 1), softmax(target / 4, 1), reduction="batchmean")
    expected = 0.7 * cross_entropy(logits, batch["label"]) + 0.3 * 16 * divergence
    expected.backward()
    torch.testing.assert_close(got["loss"], expected)
    torch.testing.assert_close(gradient, student.network.head.weight.grad)
    assert all(one.grad is None for one in model.teacher.parameters())


def test_teacher_stays_in_eval(adaptation_toy, teacher):
    model = DistilledModel(adaptation_toy.PointModel(), adaptation_toy.PointModel(width=5), teacher[1])
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    model.train()
    assert model.student.network.encoder[1].training
    assert not any(part.training for part in model.teacher.modules())
    model(**points(adaptation_toy), mode="loss")
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())


def test_valid_pixels_alone_are_distilled(adaptation_toy, tmp_path):
    torch.manual_seed(0)
    student, other = adaptation_toy.MaskModel(), adaptation_toy.MaskModel()
    torch.save(other.network.state_dict(), tmp_path / "teacher.pth")
    model = DistilledModel(student, adaptation_toy.MaskModel(), tmp_path / "teacher.pth", alpha=1.0, temperature=1.0)
    batch = torch.utils.data.default_collate([adaptation_toy.Stripes(4)[0, index] for index in range(4)])
    assert (batch["valid"][:, :, 0] == 0).all()
    loss = model.eval()(**batch, mode="loss")["loss"]
    with torch.no_grad():
        logits, target = (
            student.network(batch["image"])[:, :, 1:],
            other.eval().network(batch["image"])[:, :, 1:].sigmoid(),
        )
        entropy = binary_cross_entropy_with_logits(target.logit(), target)
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(logits, target) - entropy)


def test_predictions_are_the_students(adaptation_toy, teacher):
    student = adaptation_toy.PointModel()
    model = DistilledModel(student, adaptation_toy.PointModel(width=5), teacher[1]).eval()
    batch = points(adaptation_toy)
    for one, two in zip(model.val_step(batch), student.val_step(batch), strict=True):
        assert torch.equal(one["logits"], two["logits"])


def mutual(toy, count=2, **options):
    torch.manual_seed(0)
    return MutualModel([toy.PointModel(dropout=0.0) for _ in range(count)], **options).train()


@pytest.mark.parametrize("count", [2, 3])
def test_mutual_losses_by_hand(adaptation_toy, count):
    model, batch = mutual(adaptation_toy, count, weight=0.7), points(adaptation_toy)
    got = model(**batch, mode="loss")
    logits = [one.network(batch["image"]) for one in model.models]
    for number, own in enumerate(logits):
        others = [softmax(other, 1) for other in logits[:number] + logits[number + 1 :]]
        mimicry = sum(kl_div(log_softmax(own, 1), other, reduction="batchmean") for other in others)
        expected = cross_entropy(own, batch["label"]) + 0.7 / (count - 1) * mimicry
        torch.testing.assert_close(got[f"loss_{number}"], expected)


def test_peers_are_constants(adaptation_toy):
    model, batch = mutual(adaptation_toy), points(adaptation_toy)
    model(**batch, mode="loss")["loss_0"].backward()
    assert model.models[0].network.head.weight.grad.abs().sum() > 0
    assert all(one.grad is None for one in model.models[1].parameters())


def test_first_net_learns_from_noisy_labels_and_mimics_on_the_clean_batch(adaptation_toy):
    model = mutual(adaptation_toy)
    noisy, clean = points(adaptation_toy, seed=1), points(adaptation_toy, seed=2)
    got = model(noisy=noisy, clean=clean, mode="loss")
    on_noisy = model.models[0].network(noisy["image"])
    first, second = (one.network(clean["image"]) for one in model.models)
    mimics = kl_div(log_softmax(first, 1), softmax(second, 1), reduction="batchmean")
    torch.testing.assert_close(got["loss_0"], cross_entropy(on_noisy, noisy["label"]) + mimics)
    mimics = kl_div(log_softmax(second, 1), softmax(first, 1), reduction="batchmean")
    torch.testing.assert_close(got["loss_1"], cross_entropy(second, clean["label"]) + mimics)


def test_alternating_sees_the_moved_peer(adaptation_toy):
    """Plain gradient steps by hand, with the first network's new outputs in the second's loss."""
    rate, batch = 0.5, points(adaptation_toy)
    model, by_hand = mutual(adaptation_toy, alternating=True), mutual(adaptation_toy)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=rate))
    model.train_step(batch, wrapper)
    for number in (0, 1):
        loss = by_hand(**batch, mode="loss")[f"loss_{number}"]
        by_hand.zero_grad()
        loss.backward()
        with torch.no_grad():
            for one in by_hand.models[number].parameters():
                one -= rate * one.grad
    for one, two in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    together = mutual(adaptation_toy)
    together.train_step(batch, OptimWrapper(torch.optim.SGD(together.parameters(), lr=rate)))
    heads = [one.models[1].network.head.weight for one in (model, together)]
    assert (heads[0] - heads[1]).abs().max() > 1e-4
    torch.testing.assert_close(model.models[0].network.head.weight, together.models[0].network.head.weight)


def test_alternating_on_noisy_and_clean(adaptation_toy):
    """Without mimicry, each network's step is that of plain training on its own batch."""
    model = mutual(adaptation_toy, alternating=True, weight=0.0)
    alone = mutual(adaptation_toy).models
    pair = {"noisy": points(adaptation_toy, seed=1), "clean": points(adaptation_toy, seed=2)}
    model.train_step(pair, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5)))
    for number, name in enumerate(("noisy", "clean")):
        alone[number].train_step(pair[name], OptimWrapper(torch.optim.SGD(alone[number].parameters(), lr=0.5)))
        for one, two in zip(model.models[number].parameters(), alone[number].parameters(), strict=True):
            torch.testing.assert_close(one, two)


def test_alternating_refuses_what_it_cannot_do(adaptation_toy):
    model = mutual(adaptation_toy, alternating=True)
    with pytest.raises(InputError, match="one process"):  # as DistributedDataParallel would call it
        model(**points(adaptation_toy), mode="loss")
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    with pytest.raises(InputError, match="accumulative_counts=1"):
        model.train_step(points(adaptation_toy), wrapper)


def test_the_last_net_begins_as_it_would_alone(adaptation_toy):
    torch.manual_seed(4)
    alone = adaptation_toy.PointModel()
    torch.manual_seed(4)
    config = {"type": adaptation_toy.PointModel}
    pair = MutualModel([config, config])
    assert torch.equal(pair.models[1].network.head.weight, alone.network.head.weight)
    assert not torch.equal(pair.models[0].network.head.weight, alone.network.head.weight)
    batch = points(adaptation_toy)
    pair.eval()
    assert torch.equal(pair.val_step(batch)[0]["logits"], alone.eval().val_step(batch)[0]["logits"])


class Twice(BaseModel):
    """A model that calls its network twice a batch."""

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(6, 3)

    def forward(self, image, label, index, mode="tensor"):
        return {"loss": (self.network(image) - self.network(-image)).mean()}


def test_models_that_do_not_fit(adaptation_toy, toy, teacher):
    with pytest.raises(InputError, match="no `network`"):
        DistilledModel(toy.Classifier(), adaptation_toy.PointModel(width=5), teacher[1])
    with pytest.raises(InputError, match="does not fit"):
        DistilledModel(adaptation_toy.PointModel(), adaptation_toy.PointModel(width=6), teacher[1])
    with pytest.raises(InputError, match="at least two"):
        MutualModel([adaptation_toy.PointModel()])
    with pytest.raises(InputError, match="called its network 2 times"):
        MutualModel([Twice(), Twice()])(**points(adaptation_toy), mode="loss")
