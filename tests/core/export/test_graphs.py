"""What is wrong with a description of a graph is said when it is written down, before the exporter runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustvision.core.errors import ExportError
from robustvision.core.export import GraphExport


@pytest.fixture
def graph() -> GraphExport:
    return GraphExport(nn.Bilinear(3, 4, 5).eval(), (torch.zeros(2, 3), torch.zeros(2, 4)), ("a", "b"), ("c", "d"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": nn.Sequential(nn.Dropout())}, "training mode: call module.eval"),
        ({"module": nn.Linear(2, 2, device="meta").eval()}, "weight is on meta"),
        ({"input_names": ("a", "a")}, "'a'.*given twice"),
        ({"input_names": ("a", "c")}, "'c'.*given twice"),
        ({"output_names": ()}, "at least one input and one output"),
        ({"example_inputs": (torch.zeros(2, 3),)}, "1 example tensors for the inputs"),
        ({"samples": ((torch.zeros(2, 3),),)}, "1 example tensors for the inputs"),
        ({"example_inputs": (torch.zeros(1, 3), torch.zeros(1, 4))}, "torch treats 0 and 1 as fixed"),
        ({"example_inputs": (torch.zeros(2, 3), torch.zeros(3, 4))}, "one label is one size"),
        ({"states": {"a": "b"}}, "must lead from each input to an output"),
        ({"states": {"a": "c", "b": "c"}}, "must lead from each input to an output"),
        ({"states": {"z": "c"}}, "states names .'z'"),
        ({"value_ranges": {"c": (0, 1)}}, "value_ranges names .'c'"),
        ({"value_ranges": {"a": (1, 0)}}, "lowest, highest"),
        ({"dynamic_axes": {"a": {2: "batch"}}}, "names axis 2, the example has 2 axes"),
        ({"dynamic_axes": {"a": {-1: "batch"}}}, "names axis -1"),
        ({"dynamic_axes": {"e": {0: "batch"}}}, "dynamic_axes names .'e'"),
        ({"dynamic_axes": {"a": {1: "width"}}}, r"pass parity_sizes=\{'width'"),
        ({"parity_sizes": {"width": (1,)}}, "parity_sizes names .'width'"),
    ],
)
def test_a_contradiction_is_refused(graph: GraphExport, changes: dict, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        replace(graph, **changes)


def test_axes_are_batch_first_unless_said(graph: GraphExport) -> None:
    assert {name: graph.axes(name) for name in "abcd"} == {name: {0: "batch"} for name in "abcd"}
    fixed = replace(graph, dynamic_axes={})
    assert {name: fixed.axes(name) for name in "abcd"} == {name: {} for name in "abcd"}


def test_a_state_output_has_the_axes_of_its_input(graph: GraphExport) -> None:
    chosen = replace(
        graph,
        example_inputs=(torch.zeros(2, 3), torch.zeros(1, 2)),
        dynamic_axes={"a": {0: "batch"}, "b": {1: "batch"}},
        states={"b": "d"},
    )
    assert {name: chosen.axes(name) for name in "abcd"} == {
        "a": {0: "batch"},
        "b": {1: "batch"},
        "c": {0: "batch"},
        "d": {1: "batch"},
    }


def test_parity_is_checked_at_every_batch_and_then_at_the_other_sizes(graph: GraphExport) -> None:
    assert [case["batch"] for case in graph.size_cases()] == [1, 2, 3, 8]
    wide = replace(graph, dynamic_axes={"a": {0: "batch", 1: "width"}}, parity_sizes={"width": (7, 9), "batch": (4,)})
    assert wide.size_cases() == [
        {"batch": 4, "width": 3},
        {"batch": 2, "width": 7},
        {"batch": 2, "width": 9},
    ]
    assert replace(graph, dynamic_axes={}).size_cases() == [{}]
