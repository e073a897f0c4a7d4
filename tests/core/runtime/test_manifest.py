import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robustvision.core.errors import ModelError
from robustvision.core.runtime.manifest import Manifest, SelfTest, Threshold


def test_everything_comes_back_from_json(affine_manifest):
    manifest = affine_manifest.replace(
        classes=("Löwe", "猫"),
        thresholds=(Threshold("same", "cosine", 0.363, "a set", target=1e-3),),
        preprocessing={"size": [112, 112], "range": [0, 255]},
        metrics={"tar": np.float64(0.5), "n": np.int64(3)},
    )
    back = Manifest.from_json(manifest.to_json())
    assert back.graphs == manifest.graphs
    assert (back.classes, back.thresholds, back.metrics) == (
        manifest.classes,
        manifest.thresholds,
        {"tar": 0.5, "n": 3},
    )
    np.testing.assert_array_equal(back.self_test.outputs["y"], manifest.self_test.outputs["y"])


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_arrays_come_back_bit_for_bit(array):
    manifest = Manifest("t", "n", {}, self_test=SelfTest("main", {"x": array}, {}))
    back = Manifest.from_json(manifest.to_json()).self_test.inputs["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def _broken(change):
    def apply(manifest):
        data = json.loads(manifest.to_json())
        change(data)
        return json.dumps(data)

    return apply


@pytest.mark.parametrize(
    ("text_of", "message"),
    [
        (lambda m: "{", "not JSON"),
        (lambda m: "[" * 100_000, "not JSON"),
        (lambda m: "[1]", "schema None"),
        (_broken(lambda d: d.update(schema=2)), "schema 2, this version reads schema 1"),
        (_broken(lambda d: d.pop("task")), "incomplete"),
        (_broken(lambda d: d.update(colour="red")), "colour"),
        (_broken(lambda d: d.update(graphs=[1])), "incomplete"),
        (_broken(lambda d: d["graphs"]["main"]["inputs"][0].update(dtype="float31")), "float31"),
        (_broken(lambda d: d["graphs"]["main"]["inputs"][0].update(dtype="f4")), "not numpy's name"),
        (_broken(lambda d: d["graphs"]["main"]["inputs"][0].update(shape=[1.5])), "whole numbers or names"),
        (_broken(lambda d: d["graphs"]["main"].update(states={"h": "y"})), "'h'"),
        (_broken(lambda d: d["self_test"]["inputs"]["x"].update(zlib_base64="!")), "base64"),
        (_broken(lambda d: d["self_test"]["inputs"]["x"].update(zlib_base64="AAAA")), "decompressing"),
        (_broken(lambda d: d["self_test"]["inputs"]["x"].update(shape=[-1])), "shape (-1,)"),
        (_broken(lambda d: d["self_test"]["inputs"]["x"].update(shape=[7])), "incomplete"),
        (_broken(lambda d: d["self_test"]["inputs"]["x"].update(dtype="object")), "incomplete"),
    ],
)
def test_broken_manifests_are_refused_with_their_origin(affine_manifest, text_of, message):
    with pytest.raises(ModelError, match=r"face\.onnx: .*") as caught:
        Manifest.from_json(text_of(affine_manifest), origin="face.onnx")
    assert message in str(caught.value)


def test_a_state_must_have_the_form_of_its_output(graph_spec):
    spec = graph_spec({"h": ("float32", (2,))}, {"h_out": ("float32", (3,))}, states={"h": "h_out"})
    with pytest.raises(ModelError, match="differ in dtype or shape"):
        Manifest.from_json(Manifest("t", "n", {"main": spec}).to_json())


def test_arrays_of_another_byte_order_keep_their_values():
    manifest = Manifest("t", "n", {}, self_test=SelfTest("main", {"x": np.array([1.5, -2], ">f4")}, {}))
    np.testing.assert_array_equal(Manifest.from_json(manifest.to_json()).self_test.inputs["x"], [1.5, -2])


def test_an_array_that_unpacks_to_more_than_it_says_is_refused():
    manifest = Manifest("t", "n", {}, self_test=SelfTest("main", {"x": np.zeros(100_000)}, {}))
    data = json.loads(manifest.to_json())
    data["self_test"]["inputs"]["x"]["shape"] = [2]
    with pytest.raises(ModelError, match="incomplete"):
        Manifest.from_json(json.dumps(data))


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([object()]), {1, 2}])
def test_only_numbers_and_plain_values_enter_a_manifest(affine_manifest, value):
    with pytest.raises(TypeError, match="plain values"):
        affine_manifest.replace(metrics={"m": value}).to_json()


def test_nan_never_enters_a_manifest(affine_manifest):
    with pytest.raises(ValueError, match="JSON compliant"):
        affine_manifest.replace(metrics={"loss": float("nan")}).to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("thresholds", [{"name": "n", "score": "cosine", "value": "abc", "calibrated_on": "x"}]),
        ("thresholds", [{"name": "n", "score": "cosine", "value": None, "calibrated_on": "x"}]),
        ("thresholds", [{"name": "n", "score": "cosine", "value": 1e999, "calibrated_on": "x"}]),
        ("training", "x"),
        ("metrics", [1]),
        (
            "self_test",
            {
                "graph": "main",
                "inputs": {"x": {"dtype": "float32", "shape": [10**30], "zlib_base64": ""}},
                "outputs": {},
                "atol": 1,
            },
        ),
    ],
)
def test_values_that_a_pipeline_would_stumble_over_are_refused(affine_manifest, field, value):
    data = json.loads(affine_manifest.to_json())
    data[field] = value
    with pytest.raises(ModelError, match="incomplete"):
        Manifest.from_json(json.dumps(data))
