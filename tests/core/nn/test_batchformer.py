"""BatchFormer: samples see one another in training, labels keep step, and a deployed graph knows nothing of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.export import GraphExport, export_model
from robustvision.core.nn import BatchFormer

SIZE = 8


@pytest.fixture
def batchformer():
    torch.manual_seed(0)
    return BatchFormer(SIZE, dropout=0.0).double()


def normed(rows, norm):
    centred = rows - rows.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def encode_in_numpy(layer, x, heads):
    """A post-norm encoder layer over rows [B, C], written out."""
    w, b = layer.self_attn.in_proj_weight.detach().numpy(), layer.self_attn.in_proj_bias.detach().numpy()
    query, key, value = np.split(x @ w.T + b, 3, axis=1)
    width = x.shape[1] // heads
    parts = []
    for head in range(heads):
        of_head = slice(head * width, (head + 1) * width)
        scores = np.exp(query[:, of_head] @ key[:, of_head].T / np.sqrt(width))
        parts.append(scores / scores.sum(1, keepdims=True) @ value[:, of_head])

    def linear(module, rows):
        return rows @ module.weight.detach().numpy().T + module.bias.detach().numpy()

    x = normed(x + linear(layer.self_attn.out_proj, np.concatenate(parts, 1)), layer.norm1)
    return normed(x + linear(layer.linear2, np.maximum(linear(layer.linear1, x), 0)), layer.norm2)


def test_the_second_half_is_an_encoder_layer_over_the_batch(batchformer):
    x = torch.randn(5, SIZE, dtype=torch.float64)
    out = batchformer(x)
    torch.testing.assert_close(out[:5], x, rtol=0, atol=0)
    np.testing.assert_allclose(out[5:].detach().numpy(), encode_in_numpy(batchformer.encoder, x.numpy(), 4), atol=1e-12)


def test_tokens_of_a_position_see_that_position_of_the_other_samples_alone(batchformer):
    x = torch.randn(5, 3, SIZE, dtype=torch.float64)
    mixed = batchformer(x)[5:].detach().numpy()
    for position in range(3):
        expected = encode_in_numpy(batchformer.encoder, x[:, position].numpy(), 4)
        np.testing.assert_allclose(mixed[:, position], expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, SIZE), (4, 3, SIZE)])
def test_every_sample_changes_every_other(batchformer, shape):
    """The trap of batch_first, with which each sample sees itself alone."""
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mixed = batchformer(x)[4:]
    for i in range(4):
        # not the plain sum: the normalised rows sum to a constant
        (gradient,) = torch.autograd.grad((mixed[i] ** 3).sum(), x, retain_graph=True)
        assert (gradient.flatten(1).abs().amax(1) > 1e-6).all()


def test_batch_first_would_not_mix(batchformer):
    """The other half of the trap: what the test above must catch."""
    wrong = nn.TransformerEncoderLayer(SIZE, 4, SIZE, dropout=0.0, batch_first=True).double()
    x = torch.randn(4, SIZE, dtype=torch.float64)
    changed = torch.cat([x[:3], x[3:] + 1])
    torch.testing.assert_close(wrong(changed[:, None])[:3], wrong(x[:, None])[:3])
    assert (batchformer(changed)[4:7] - batchformer(x)[4:7]).abs().amax() > 1e-4


def test_the_order_of_the_batch_does_not_matter(batchformer):
    x = torch.randn(6, SIZE, dtype=torch.float64)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(batchformer(x[order])[6:], batchformer(x)[6:][order])


def test_all_labels_are_doubled_in_the_order_of_the_features(batchformer):
    x = torch.randn(3, SIZE, dtype=torch.float64)
    classes, others, pairs = torch.tensor([4, 5, 6]), torch.tensor([6, 4, 5]), torch.arange(6).view(3, 2)
    features, *doubled = batchformer(x, classes, others, pairs)
    assert features.shape == (6, SIZE)
    for before, after in zip((classes, others, pairs), doubled, strict=True):
        assert torch.equal(after, torch.cat([before, before]))


def test_a_batch_of_one_and_none(batchformer):
    x = torch.randn(1, SIZE, dtype=torch.float64)
    np.testing.assert_allclose(
        batchformer(x)[1:].detach().numpy(), encode_in_numpy(batchformer.encoder, x.numpy(), 4), atol=1e-12
    )
    features, labels = batchformer(x[:0], torch.zeros(0, dtype=torch.long))
    assert features.shape == (0, SIZE)
    assert labels.shape == (0,)


def test_eval_is_the_identity(batchformer):
    batchformer.eval()
    x, labels = torch.randn(3, SIZE), torch.arange(3)
    assert batchformer(x) is x
    features, same = batchformer(x, labels)
    assert features is x
    assert same is labels


def test_dropout_works_in_training_only_on_the_mixed_half():
    torch.manual_seed(0)
    batchformer = BatchFormer(SIZE)
    x = torch.randn(6, SIZE)
    one, other = batchformer(x), batchformer(x)
    assert torch.equal(one[:6], other[:6])
    assert not torch.allclose(one[6:], other[6:])


@pytest.mark.parametrize(("size", "count"), [(8, 464), (512, 1_577_984)])
def test_parameter_count(size, count):
    assert sum(parameter.numel() for parameter in BatchFormer(size).parameters()) == count == 6 * size**2 + 10 * size


def test_gradients(batchformer):
    x = torch.randn(3, SIZE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(batchformer, (x,))
    tokens = torch.randn(2, 2, SIZE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(batchformer, (tokens,))


def test_bfloat16_under_autocast():
    torch.manual_seed(0)
    batchformer = BatchFormer(64, dropout=0.0)
    x = torch.randn(16, 64)
    with torch.autocast("cpu", torch.bfloat16):
        low = batchformer(x)
    torch.testing.assert_close(low.float(), batchformer(x), rtol=0.05, atol=0.05)


class Network(nn.Module):
    """A backbone, perhaps a BatchFormer, and the classifier that both halves share."""

    def __init__(self, *, mixes: bool) -> None:
        super().__init__()
        self.backbone = nn.Linear(5, SIZE)
        self.batchformer = BatchFormer(SIZE) if mixes else nn.Identity()
        self.head = nn.Linear(SIZE, 3)

    def forward(self, x):
        return self.head(self.batchformer(torch.relu(self.backbone(x))))


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_it_vanishes_from_an_exported_graph(tmp_path, exporter):
    torch.manual_seed(0)
    mixing, plain = Network(mixes=True), Network(mixes=False)
    assert mixing(torch.randn(4, 5)).shape == (8, 3)
    plain.load_state_dict({k: v for k, v in mixing.state_dict().items() if not k.startswith("batchformer")})
    graphs = {}
    for name, network in (("mixing", mixing), ("plain", plain)):
        graph = GraphExport(network.eval(), (torch.randn(2, 5),), ("x",), ("logits",), exporter=exporter)
        export_model(tmp_path / f"{name}.onnx", {"main": graph}, task="test", name=name)
        graphs[name] = onnx.load(tmp_path / f"{name}.onnx").graph
    assert len(graphs["mixing"].node) == len(graphs["plain"].node)
    assert [node.op_type for node in graphs["mixing"].node] == [node.op_type for node in graphs["plain"].node]
    sizes = {name: sorted(tuple(one.dims) for one in graph.initializer) for name, graph in graphs.items()}
    assert sizes["mixing"] == sizes["plain"]


def test_mmengine_gives_it_a_tenth_of_the_learning_rate():
    from mmengine.optim import DefaultOptimWrapperConstructor

    network = Network(mixes=True)
    build = DefaultOptimWrapperConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.2, "weight_decay": 1e-3}},
        {"custom_keys": {"batchformer": {"lr_mult": 0.1}}},
    )
    of_batchformer = {id(parameter) for parameter in network.batchformer.parameters()}
    groups = build(network).optimizer.param_groups
    rates = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    for parameter, (rate, decay) in rates.items():
        assert rate == pytest.approx(0.02 if parameter in of_batchformer else 0.2)
        assert decay == 1e-3


def test_bad_input(batchformer):
    x = torch.randn(3, SIZE, dtype=torch.float64)
    with pytest.raises(InputError, match=r"cannot be split among 4 heads"):
        BatchFormer(6)
    with pytest.raises(InputError, match=r"shape \[3, 8, 2, 2\].*flatten\(2\)"):
        batchformer(torch.randn(3, SIZE, 2, 2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"shape \[3, 7\]"):
        batchformer(x[:, :7])
    with pytest.raises(InputError, match=r"a label has shape \[2\], but the batch has 3"):
        batchformer(x, torch.arange(3), torch.arange(2))


def test_compiles_without_a_break(batchformer):
    x = torch.randn(4, SIZE, dtype=torch.float64)
    compiled = torch.compile(batchformer, backend="eager", fullgraph=True)
    features, labels = compiled(x, torch.arange(4))
    torch.testing.assert_close(features, batchformer(x))
    assert torch.equal(labels, torch.arange(4).repeat(2))
