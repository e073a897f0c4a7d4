import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.manifest import MANIFEST_FILE, Manifest, SelfTest
from robustvision.core.runtime.session import open_model


def test_a_file_opens_runs_and_describes_itself(affine_path):
    model = open_model(affine_path, task="toy")
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(model.main(x)[0], 2 * x + 1, rtol=1e-6)
    np.testing.assert_array_equal(model.main.run({"x": x})["y"], model.main(x)[0])
    assert model.manifest.name == "affine"
    assert model.sha256 == hashlib.sha256(affine_path.read_bytes()).hexdigest()
    assert "CPUExecutionProvider" in model.providers


def test_a_folder_opens_as_several_graphs(stateful_folder):
    model = open_model(stateful_folder, warm_up=True)
    assert list(model.graphs) == ["encode", "add_up"]
    np.testing.assert_array_equal(model.graphs["encode"](np.ones((1, 2), np.float32))[0], [[2, 2]])
    with pytest.raises(ModelError, match="encode, add_up"):
        _ = model.main


def test_a_folders_hash_covers_every_file(stateful_folder):
    before = open_model(stateful_folder).sha256
    assert open_model(stateful_folder).sha256 == before
    for file in stateful_folder.iterdir():
        original = file.read_bytes()
        file.write_bytes(original + (b"" if file.suffix == ".json" else b"\x7a\x00") + b" " * (file.suffix == ".json"))
        assert open_model(stateful_folder).sha256 != before
        file.write_bytes(original)


def test_warm_up_takes_open_sizes_from_the_self_test(write_onnx, graph_spec, tmp_path):
    from onnx import helper

    inputs, outputs = {"x": ("float32", ("batch", "length"))}, {"y": ("float32", ("batch", 2, "half"))}
    nodes = [helper.make_node("Reshape", ["x", "form"], ["y"])]  # fails for an odd length
    x = np.arange(8, dtype=np.float32)[None]
    manifest = Manifest(
        "t",
        "n",
        {"main": graph_spec(inputs, outputs)},
        self_test=SelfTest("main", {"x": x}, {"y": x.reshape(1, 2, 4)}),
    )
    constants = {"form": np.array([0, 2, -1])}
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, constants=constants, manifest=manifest)
    assert open_model(path, warm_up=True).self_test().ok
    with pytest.raises(ModelError, match=r"could not run it on x \(1, 7\)"):
        open_model(path).main(np.ones((1, 7), np.float32))


# --- files that are not what they should be ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"not a model" * 50, "not an ONNX file"),
        (b"\x00" * 500, "not an ONNX file"),
        (b"<!DOCTYPE html>", "not an ONNX file"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        open_model(path)


def test_a_torn_file_is_refused(affine_path):
    data = affine_path.read_bytes()
    for length in range(1, len(data) - 1, 97):
        affine_path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            open_model(affine_path)


def test_a_file_without_manifest_says_what_to_do(write_affine, tmp_path):
    with pytest.raises(ModelError, match="robustvision-face repair"):
        open_model(write_affine(tmp_path / "bare.onnx", manifest=None))


def test_the_task_must_be_the_wanted_one(affine_path):
    with pytest.raises(ModelError, match="is a model for toy, but one for face-recognition is needed"):
        open_model(affine_path, task="face-recognition")


def test_another_schema_is_refused(write_affine, affine_manifest, tmp_path):
    text = affine_manifest.replace(schema=99).to_json()
    with pytest.raises(ModelError, match="schema 99"):
        open_model(write_affine(tmp_path / "m.onnx", manifest=text))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"image": ("float32", ("batch", 3, 4, 4))}, None),
        ({"x": ("uint8", ("batch", 3, 4, 4))}, None),
        ({"x": ("float32", ("batch", 3, 5, 4))}, None),
        ({"x": ("float32", ("batch", 3, 16))}, None),
        ({"x": ("float32", ("batch", 3, "height", 4))}, None),
        (None, {"z": ("float32", ("batch", 3, 4, 4))}),
        (None, {"y": ("float32", ("batch", 3, 4))}),
        (None, {}),
    ],
)
def test_the_graph_must_be_what_the_manifest_says(write_affine, affine_manifest, graph_spec, tmp_path, inputs, outputs):
    wrong = graph_spec(
        {"x": ("float32", ("batch", 3, 4, 4))} if inputs is None else inputs,
        {"y": ("float32", ("batch", 3, 4, 4))} if outputs is None else outputs,
    )
    path = write_affine(tmp_path / "m.onnx", affine_manifest.replace(graphs={"main": wrong}))
    with pytest.raises(ModelError, match=r"its manifest says .*: export it again"):
        open_model(path)


def test_a_manifest_may_fix_what_the_graph_leaves_open(write_affine, affine_manifest, graph_spec, tmp_path):
    form = ("float32", (1, 3, 4, 4))
    path = write_affine(
        tmp_path / "m.onnx", affine_manifest.replace(graphs={"main": graph_spec({"x": form}, {"y": form})})
    )
    with pytest.raises(InputError, match=r"must be float32\[1, 3, 4, 4\]"):
        open_model(path).main(np.zeros((2, 3, 4, 4), np.float32))


def test_a_single_file_has_one_graph(write_affine, affine_manifest, tmp_path):
    spec = affine_manifest.graphs["main"]
    path = write_affine(tmp_path / "m.onnx", affine_manifest.replace(graphs={"a": spec, "b": spec}))
    with pytest.raises(ModelError, match="names 2 graphs"):
        open_model(path)


# --- folders ---


def _rewrite(folder, change):
    data = json.loads((folder / MANIFEST_FILE).read_text())
    change(data)
    (folder / MANIFEST_FILE).write_text(json.dumps(data))


@pytest.mark.parametrize(
    "file", ["../stolen.onnx", "/etc/passwd", "a/../../stolen.onnx", "..\\stolen.onnx", "C:\\stolen.onnx", "", "."]
)
def test_a_folder_names_no_file_outside_itself(stateful_folder, tmp_path, file):
    (tmp_path / "stolen.onnx").write_bytes((stateful_folder / "encode.onnx").read_bytes())
    _rewrite(stateful_folder, lambda d: d["graphs"]["encode"].update(file=file))
    with pytest.raises(ModelError, match="which is not inside the folder"):
        open_model(stateful_folder)


def test_a_link_that_leaves_the_folder_is_refused(stateful_folder, tmp_path):
    (stateful_folder / "encode.onnx").rename(tmp_path / "outside.onnx")
    (stateful_folder / "encode.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(ModelError, match="which is not inside the folder"):
        open_model(stateful_folder)


def test_a_folder_reached_by_a_link_opens(stateful_folder, tmp_path):
    (tmp_path / "current").symlink_to(stateful_folder)
    assert list(open_model(tmp_path / "current").graphs) == ["encode", "add_up"]


def test_a_folder_without_manifest_or_graph_is_refused(stateful_folder):
    (stateful_folder / "encode.onnx").unlink()
    with pytest.raises(ModelError, match=r"encode\.onnx is not a file"):
        open_model(stateful_folder)
    (stateful_folder / MANIFEST_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="UTF-8"):
        open_model(stateful_folder)
    (stateful_folder / MANIFEST_FILE).unlink()
    with pytest.raises(ModelError, match=r"holds no manifest\.json"):
        open_model(stateful_folder)


def test_external_weights_outside_the_folder_are_refused(write_external, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 16)
    (tmp_path / "model").mkdir()
    for location in ("../secret.bin", tmp_path / "secret.bin"):
        with pytest.raises(ModelError, match="not an ONNX file that onnxruntime can open"):
            open_model(write_external(tmp_path / "model" / "m.onnx", location))


# --- self-test ---


def test_the_self_test_passes_and_notices_a_change(write_affine, affine_manifest, affine_path, tmp_path):
    result = open_model(affine_path).self_test()
    assert result.ok
    assert result.max_abs <= 1e-5

    test = affine_manifest.self_test
    shifted = SelfTest("main", test.inputs, {"y": test.outputs["y"] + 0.01}, atol=1e-3)
    result = open_model(write_affine(tmp_path / "a.onnx", affine_manifest.replace(self_test=shifted))).self_test()
    assert not result.ok
    assert result.max_abs == pytest.approx(0.01, rel=1e-3)

    reshaped = SelfTest("main", test.inputs, {"y": test.outputs["y"][:1]}, atol=1e-3)
    result = open_model(write_affine(tmp_path / "b.onnx", affine_manifest.replace(self_test=reshaped))).self_test()
    assert (result.ok, result.max_abs) == (False, float("inf"))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (None, "carries no self-test"),
        (SelfTest("other", {}, {}), "the graph 'other'"),
        (SelfTest("main", {"x": np.zeros(3, np.float32)}, {}), "does not fit its graph"),
        (SelfTest("main", {"x": np.zeros((1, 3, 4, 4), np.float32)}, {"z": np.zeros(1)}), "the output 'z'"),
    ],
)
def test_an_impossible_self_test_is_a_model_error(write_affine, affine_manifest, tmp_path, test, message):
    path = write_affine(tmp_path / "m.onnx", affine_manifest.replace(self_test=test))
    with pytest.raises(ModelError, match=message):
        open_model(path).self_test()


# --- providers and threads ---


def test_an_unknown_provider_is_refused_with_what_there_is(affine_path):
    with pytest.raises(InputError, match=r"'WarpDrive' is not in this onnxruntime, which has .*CPUExecutionProvider"):
        open_model(affine_path, providers=["WarpDrive"])
    with pytest.raises(InputError, match="providers is empty"):
        open_model(affine_path, providers=[])


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is really there")
def test_a_provider_that_cannot_start_is_an_error_only_if_it_was_asked_for(affine_path, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(InputError, match="could not start"):
        open_model(affine_path, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert open_model(affine_path).providers == ("CPUExecutionProvider",)


@pytest.fixture
def options_seen(monkeypatch):
    seen = []
    real = ort.InferenceSession

    def spy(path, options, **kwargs):
        seen.append(options)
        return real(path, options, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    return seen


@pytest.mark.parametrize(
    ("cores", "limit", "asked", "given"),
    [(3, "", None, 3), (3, "2", None, 2), (3, "8", None, 3), (3, "", 2, 2), (3, "1", 8, 3)],
)
def test_threads_never_exceed_the_cores_of_the_process(
    affine_path, options_seen, monkeypatch, cores, limit, asked, given
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    open_model(affine_path, threads=asked)
    assert options_seen[0].intra_op_num_threads == given


def test_spinning_can_be_switched_off(affine_path, options_seen):
    open_model(affine_path, spinning=False)
    assert options_seen[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_no_thread_is_too_few(affine_path):
    with pytest.raises(InputError, match="at least 1"):
        open_model(affine_path, threads=0)


def test_errors_are_not_also_printed_by_onnxruntime(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"garbage" * 20)
    code = f"""
from robustvision.core.runtime import open_model
try:
    open_model({str(tmp_path / "bad.onnx")!r})
except ValueError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
