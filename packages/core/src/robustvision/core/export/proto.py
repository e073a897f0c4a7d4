"""ONNX protobufs: reading, walking, stripping, describing. Needs onnx, not torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from robustvision.core.errors import ModelError
from robustvision.core.runtime.manifest import GraphSpec, TensorSpec


def read_graph(path: str | os.PathLike[str]) -> ModelProto:
    """Read one ONNX file, whoever made it.

    Raises:
        ModelError: There is no such file, it is not ONNX, or it keeps weights in other files (whose paths could lead
            anywhere).
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} is not a file: name an ONNX file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ModelError(f"{path} is not an ONNX file, or a torn one ({error}): export or download it again") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path} holds no graph: export or download it again")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{path} keeps its weights in another file, which is not read: save it as one file")
    return model


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph inside its nodes (branches and loop bodies)."""
    yield graph
    for node in graph.node:
        yield from _inner_graphs(node)


def opset_of(model: ModelProto) -> int:
    """Return the version of the default ONNX opset of a model."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def strip(model: ModelProto) -> None:
    """Remove every doc string and every metadata entry, in place: torch writes this machine's source paths there."""
    _clear([model])
    graphs = list(all_graphs(model.graph))
    for function in model.functions:
        _clear([function, *function.value_info])
        _clear_nodes(function.node)
        graphs += [inner for node in function.node for inner in _inner_graphs(node)]
    for graph in graphs:
        _clear([graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer])
        _clear_nodes(graph.node)


def drop_unused_domains(model: ModelProto) -> None:
    """Remove operator sets that no node uses: onnxruntime's optimiser imports all that it knows, others refuse them."""
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    used = {node.domain for node in nodes} | {"", "ai.onnx"}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def describe_graph(
    model: ModelProto,
    file: str = "",
    states: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> GraphSpec:
    """Read the inputs and outputs of a graph for its manifest.

    Args:
        model: The graph.
        file: Its file in the model's folder; empty for a single file.
        states: Input name to output name of every cache.
        descriptions: Tensor name to what it holds.
    """
    inputs, outputs = (
        tuple(_tensor_spec(tensor, descriptions or {}) for tensor in side)
        for side in (model.graph.input, model.graph.output)
    )
    return GraphSpec(inputs=inputs, outputs=outputs, file=file, states=dict(states or {}))


def _tensor_spec(tensor: ValueInfoProto, descriptions: Mapping[str, str]) -> TensorSpec:
    kind = tensor.type.tensor_type
    return TensorSpec(
        name=tensor.name,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        shape=tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{tensor.name}_{axis}"
            for axis, dim in enumerate(kind.shape.dim)
        ),
        description=descriptions.get(tensor.name, ""),
    )


def _inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            yield from all_graphs(inner)


def _clear_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        _clear([node])
        for attribute in node.attribute:
            attribute.doc_string = ""


def _clear(entries: Iterable[Any]) -> None:
    for entry in entries:
        entry.doc_string = ""
        del entry.metadata_props[:]
