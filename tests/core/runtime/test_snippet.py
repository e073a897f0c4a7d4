import subprocess
import sys

import numpy as np
import pytest

from robustvision.core.runtime.manifest import GraphSpec, Manifest, SelfTest, TensorSpec
from robustvision.core.runtime.session import open_model
from robustvision.core.runtime.snippet import python_snippet


@pytest.mark.parametrize("name", ["affine_path", "stateful_folder"])
def test_the_snippet_runs_as_it_is(request, name):
    path = request.getfixturevalue(name)
    source = python_snippet(open_model(path).manifest, path)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] in ("y float32 (2, 3, 4, 4)", "z float32 (1, 2)")
    assert len(source.splitlines()) <= 14


def test_a_stateful_graph_is_run_as_a_stream(stateful_folder, capsys):
    manifest = open_model(stateful_folder).manifest
    first = manifest.replace(graphs={"add_up": manifest.graphs["add_up"]})
    exec(python_snippet(first, stateful_folder), {})
    assert capsys.readouterr().out == "y float32 (1, 2)\n"


def test_sizes_come_from_the_self_test_and_descriptions_become_comments():
    inputs = (TensorSpec("image", "uint8", ("batch", "height", 3), "RGB,\n0 to 255"), TensorSpec("k", "int64", ()))
    test = SelfTest("main", {"image": np.zeros((1, 32, 3), np.uint8)}, {})
    manifest = Manifest("t", "n", {"main": GraphSpec(inputs, ())}, self_test=test)
    source = python_snippet(manifest, "it's.onnx")
    assert "'image': np.zeros((1, 32, 3), 'uint8'),  # RGB, 0 to 255\n" in source
    assert "'k': np.zeros((), 'int64'),\n" in source
    compile(source, "snippet", "exec")
