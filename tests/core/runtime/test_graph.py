import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.manifest import Manifest
from robustvision.core.runtime.session import open_model


@pytest.fixture
def graph(affine_path):
    return open_model(affine_path).main


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((1, 3, 4, 4)),
            r"must be float32\[batch, 3, 4, 4\], got float64\[1, 3, 4, 4\]: .*astype\(np.float32\)",
        ),
        (np.zeros((1, 3, 4, 4), np.uint8), "astype"),
        (np.zeros((3, 4, 4), np.float32), r"add the batch axis with array\[None\]"),
        (np.zeros((1, 3, 4, 5), np.float32), r"got float32\[1, 3, 4, 5\]"),
        (np.zeros((1, 4, 4, 3), np.float32), r"got float32\[1, 4, 4, 3\]"),
        (np.zeros((1, 1, 3, 4, 4), np.float32), r"got float32\[1, 1, 3, 4, 4\]"),
        (np.zeros((0, 3, 4, 4), np.float32), "which is empty"),
        ([[1.0]], "got list: pass a numpy array"),
        (None, "got NoneType"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(graph, array, message):
    with pytest.raises(InputError, match=message):
        graph(array)
    with pytest.raises(InputError, match=message):
        graph.run({"x": array})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 17, 95])
def test_one_non_finite_value_anywhere_is_refused(graph, value, position):
    x = np.zeros((2, 3, 4, 4), np.float32)
    x.flat[position] = value
    with pytest.raises(InputError, match="input x holds 1 values that are NaN or infinite"):
        graph(x)


def test_infinities_that_cancel_are_refused_and_large_values_pass(graph):
    x = np.zeros((1, 3, 4, 4), np.float32)
    x.flat[:2] = np.inf, -np.inf
    with pytest.raises(InputError, match="holds 2 values"):
        graph(x)
    x[:] = np.finfo(np.float32).max / 4  # their sum is not finite, each is
    assert np.isfinite(graph(x)[0]).all()


def test_names_must_be_those_of_the_graph(graph):
    x = np.zeros((1, 3, 4, 4), np.float32)
    for inputs in ({}, {"image": x}, {"x": x, "y": x}):
        with pytest.raises(InputError, match="takes the inputs x, got"):
            graph.run(inputs)
    with pytest.raises(InputError, match="takes 1 inputs"):
        graph(x, x)


def test_views_need_not_be_contiguous(graph):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        graph(x.transpose(0, 3, 1, 2))[0], graph(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))[0]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", "bool"])
def test_every_element_type_passes_its_own_and_no_other(write_onnx, graph_spec, tmp_path, dtype):
    inputs, outputs = {"x": (dtype, ("n",))}, {"y": (dtype, ("n",))}
    manifest = Manifest("t", "n", {"main": graph_spec(inputs, outputs)})
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = open_model(write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, manifest=manifest)).main
    x = np.array([0, 1, 1]).astype(dtype)
    np.testing.assert_array_equal(graph(x)[0], x)
    with pytest.raises(InputError, match=f"must be {dtype}"):
        graph(x.astype("int32"))


def test_inputs_agree_on_a_shared_axis(stateful_folder):
    graph = open_model(stateful_folder).graphs["add_up"]
    with pytest.raises(InputError, match="total has batch=3, but z has batch=2"):
        graph.run({"z": np.zeros((2, 2), np.float32), "total": np.zeros((3, 2), np.float32)})


# --- streams ---


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.integers(1, 3))
def test_a_stream_adds_up_what_it_was_fed(shared_stream, numbers, batch):
    shared_stream.reset()
    steps = np.array(numbers, np.float32)[:, None, None] * np.ones((1, batch, 2), np.float32)
    found = [shared_stream.step(z=z)["y"] for z in steps]
    np.testing.assert_array_equal(found, np.cumsum(steps, axis=0))


@pytest.fixture(scope="module")
def shared_stream(tmp_path_factory, write_onnx, graph_spec):
    inputs = {"z": ("float32", ("batch", 2)), "total": ("float32", ("batch", 2))}
    outputs = {"y": ("float32", ("batch", 2)), "total_out": ("float32", ("batch", 2))}
    nodes = [helper.make_node("Add", ["z", "total"], ["y"]), helper.make_node("Identity", ["y"], ["total_out"])]
    spec = graph_spec(inputs, outputs, states={"total": "total_out"})
    path = tmp_path_factory.mktemp("stream") / "m.onnx"
    return open_model(
        write_onnx(path, nodes, inputs, outputs, manifest=Manifest("t", "n", {"main": spec}))
    ).main.stream()


def test_streams_hide_their_states_and_do_not_share_them(stateful_folder):
    graph = open_model(stateful_folder).graphs["add_up"]
    first, second = graph.stream(), graph.stream()
    one = np.ones((1, 2), np.float32)
    assert list(first.step(z=one)) == ["y"]
    first.step(z=one)
    assert second.step(z=one)["y"][0, 0] == 1


def test_wrong_steps_are_refused_and_do_no_harm(stateful_folder):
    stream = open_model(stateful_folder).graphs["add_up"].stream()
    one = np.ones((1, 2), np.float32)
    stream.step(z=one)
    with pytest.raises(InputError, match=r"reset\(\)"):
        stream.step(z=np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match="NaN"):
        stream.step(z=one * np.nan)
    with pytest.raises(InputError, match="total is a state"):
        stream.step(z=one, total=one)
    with pytest.raises(InputError, match="takes the inputs"):
        stream.step(x=one)
    assert stream.step(z=one)["y"][0, 0] == 2
    stream.reset()
    assert stream.step(z=np.ones((2, 2), np.float32))["y"].shape == (2, 2)


def test_a_state_that_overflows_tells_to_reset(stateful_folder):
    stream = open_model(stateful_folder).graphs["add_up"].stream()
    large = np.full((1, 2), 3e38, np.float32)
    stream.step(z=large)
    stream.step(z=large)  # the sum is infinite now
    with pytest.raises(InputError, match=r"input total holds 2 values .* reset\(\) the stream"):
        stream.step(z=large)


def test_a_refused_step_leaves_the_stream_as_it_was(stateful_folder):
    stream = open_model(stateful_folder).graphs["add_up"].stream()
    one = np.ones((1, 2), np.float32)
    stream.step(z=one)
    for bad, message in (
        (one * np.nan, "holds 2 values"),
        (one[0], "batch axis"),
        (np.ones((2, 2), np.float32), "batch=2"),
    ):
        with pytest.raises(InputError, match=message):
            stream.step(z=bad)
    np.testing.assert_array_equal(stream.step(z=one)["y"], 2 * one)


def test_a_state_axis_that_no_input_has_is_refused(write_onnx, graph_spec, tmp_path):
    inputs = {"z": ("float32", ("batch", 2)), "past": ("float32", ("time", 2))}
    outputs = {"y": ("float32", ("batch", 2)), "past_out": ("float32", ("time", 2))}
    nodes = [helper.make_node("Identity", ["z"], ["y"]), helper.make_node("Identity", ["past"], ["past_out"])]
    manifest = Manifest("t", "n", {"main": graph_spec(inputs, outputs, states={"past": "past_out"})})
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, manifest=manifest)
    with pytest.raises(ModelError, match="the state past has the dynamic axis 'time'"):
        open_model(path).main.stream().step(z=np.zeros((1, 2), np.float32))
