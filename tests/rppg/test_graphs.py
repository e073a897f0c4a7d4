"""The graphs that leave torch: the same numbers in onnxruntime, as windows of any length and as a stream of frames."""

import numpy as np
import onnx
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.export import export_model
from robustvision.core.runtime import open_model
from robustvision.rppg.contract import BVP, STREAM_GRAPH, TASK, WINDOW_GRAPH
from robustvision.rppg.graphs import stream_graph, window_graph
from robustvision.rppg.networks import PhysFSUNet, PhysNet


def film(batch=1, frames=40, seed=0):
    """Pixels of their own colours that beat, uint8 [B, 3, T, 16, 16]."""
    rng = np.random.default_rng(seed)
    beat = 1 + 0.02 * np.sin(np.arange(frames) / 4)[:, None, None]
    skin = rng.uniform(60, 180, (batch, 3, 1, 16, 16))
    return (skin * beat + rng.normal(size=(batch, 3, frames, 16, 16))).astype(np.uint8)


def settled(network):
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.from_numpy(film(3, 80, seed=9)))
    return network.eval()


def export(folder, network):
    graphs = {WINDOW_GRAPH: window_graph(network, 16)}
    if getattr(network, "causal", False):
        graphs[STREAM_GRAPH] = stream_graph(network, 16)
    return export_model(folder, graphs, task=TASK, name="test")


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A causal network, its report and its opened model."""
    torch.manual_seed(0)
    network = settled(PhysFSUNet(8, causal=True))
    folder = tmp_path_factory.mktemp("causal") / "model"
    report = export(folder, network)
    return network, report, open_model(folder, task=TASK)


@pytest.fixture(scope="module", params=["dff", "PhysNet"])
def windowed(request, tmp_path_factory):
    """A network that looks ahead, and its opened model."""
    torch.manual_seed(0)
    network = settled(PhysNet(32) if request.param == "PhysNet" else PhysFSUNet(8))
    folder = tmp_path_factory.mktemp("windowed") / "model"
    export(folder, network)
    return network, open_model(folder, task=TASK)


def torch_wave(network, frames):
    with torch.no_grad():
        return network(torch.from_numpy(frames)).numpy()


@pytest.mark.parametrize("frames", [1, 2, 33, 160])
def test_windows_of_the_causal_network(causal, frames):
    network, report, model = causal
    assert report.manifest.metrics["parity"]["max_rel"] < 1e-4  # four seeds: up to 3e-5, of values up to 30
    clip = film(2, frames)
    (wave,) = model.graphs[WINDOW_GRAPH](clip)
    np.testing.assert_allclose(wave, torch_wave(network, clip), rtol=0, atol=1e-4)
    assert frames < 33 or wave.std() > 0.05


@pytest.mark.parametrize("frames", [4, 128, 160])
def test_windows_of_a_network_that_looks_ahead(windowed, frames):
    network, model = windowed
    clip = film(3, frames)
    (wave,) = model.graphs[WINDOW_GRAPH](clip)
    np.testing.assert_allclose(wave, torch_wave(network, clip), rtol=0, atol=1e-4)


def test_the_stream_is_the_window(causal):
    _, _, model = causal
    clip = film(2, 120)
    (wave,) = model.graphs[WINDOW_GRAPH](clip)
    stream = model.graphs[STREAM_GRAPH].stream()
    for _ in range(2):  # reset() forgets all
        values = [stream.step(frame=np.ascontiguousarray(clip[:, :, t : t + 1]))[BVP] for t in range(120)]
        np.testing.assert_allclose(np.concatenate(values, axis=1), wave, rtol=0, atol=3e-5)
        stream.reset()


@pytest.mark.parametrize("cuts", [[4] * 30, [120], [1, 4, 2, 7, 31, 75]])
def test_however_a_film_is_cut_the_stream_is_the_same(causal, cuts):
    _, _, model = causal
    clip = film(2, 120)
    (wave,) = model.graphs[WINDOW_GRAPH](clip)
    stream = model.graphs[STREAM_GRAPH].stream()
    pieces = np.split(clip, np.cumsum(cuts)[:-1], axis=2)
    values = [stream.step(frame=np.ascontiguousarray(piece))[BVP] for piece in pieces]
    np.testing.assert_allclose(np.concatenate(values, axis=1), wave, rtol=0, atol=3e-5)


def test_one_memory_is_all_that_a_stream_hands_on(causal):
    spec = causal[2].graphs[STREAM_GRAPH].spec
    assert [tensor.name for tensor in spec.inputs] == ["frame", "memory"]
    assert dict(spec.states) == {"memory": "next_memory"}


def test_batch_normalisation_is_folded_and_nothing_is_scattered(causal):
    folder = causal[2].path
    for name in (WINDOW_GRAPH, STREAM_GRAPH):
        kinds = {node.op_type for node in onnx.load(folder / f"{name}.onnx").graph.node}
        assert not kinds & {"BatchNormalization", "ScatterND", "Loop", "If"}, name


def test_a_network_that_looks_ahead_has_no_stream():
    with pytest.raises(InputError, match=r"PhysFSUNet sees later frames.*causal=True"):
        stream_graph(PhysFSUNet(8).eval(), 16)
