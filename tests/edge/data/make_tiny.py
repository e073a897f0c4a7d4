"""Makes tiny.onnx: y = 2 x + 1 on [batch, 3, 4, 4], with a manifest and a self-test.

The edge tests run without the `onnx` package, so the file is committed. To make it again, in the training environment:
python tests/edge/data/make_tiny.py
"""

from pathlib import Path

import numpy as np

from robustvision.core.runtime import GraphSpec, Manifest, SelfTest, TensorSpec


def main() -> None:
    from onnx import TensorProto, helper, numpy_helper

    shape = ("batch", 3, 4, 4)
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    manifest = Manifest(
        task="tiny",
        name="affine",
        graphs={"main": GraphSpec((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", shape),))},
        self_test=SelfTest("main", {"x": x}, {"y": 2 * x + 1}, atol=1e-5),
    )
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["d"]), helper.make_node("Add", ["d", "one"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(2), "two"), numpy_helper.from_array(np.float32(1), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"robustvision": manifest.to_json()})
    Path(__file__).with_name("tiny.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
