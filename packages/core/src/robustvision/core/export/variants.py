"""Smaller variants of an exported model: fp16, and int8 with dynamic or static scales.

Each is written with what it costs: the caller's metric, measured on the original and on the variant, stands in the
variant's manifest. Measured on two CPU networks: fp16 halves the file and is slower on a CPU (casts); dynamic int8 of a
convolutional network is a quarter of the size and slower; static int8 of a ReLU network is a quarter of the size and
three times as fast, of a PReLU network no faster. Needs onnx and onnxruntime, not torch.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from robustvision.core.errors import ExportError
from robustvision.core.export.files import is_single_file, json_of, read_model, staged_model, write_model
from robustvision.core.export.proto import describe_graph, drop_unused_domains, strip
from robustvision.core.export.self_test import make_self_test, open_session, reopen
from robustvision.core.runtime.manifest import MAIN_GRAPH, Manifest, SelfTest

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]
Measure = Callable[[Path], Mapping[str, float]]
Calibration = Iterable[Mapping[str, Array]]
Convert = Callable[[ModelProto], ModelProto]

ORIGINAL = "fp32"
FP16_TOLERANCE = 1e-2  # of the largest expected value: half precision has three digits


@dataclass(frozen=True)
class VariantReport:
    """A variant and what it costs.

    Attributes:
        path: The file or folder.
        variant: ``fp16``, ``int8-dynamic`` or ``int8-static``.
        original: The metrics of the original.
        measured: The metrics of the variant.
        difference: Variant minus original.
        size_ratio: Bytes of the variant over bytes of the original.
        self_test_change: How far the variant's outputs on the self-test inputs are from the original's, at most.
    """

    path: Path
    variant: str
    original: dict[str, float]
    measured: dict[str, float]
    difference: dict[str, float]
    size_ratio: float
    self_test_change: float


def to_fp16(
    source: PathLike, destination: PathLike, *, measure: Measure, graphs: Iterable[str] | None = None
) -> VariantReport:
    """Write a half-precision variant; inputs and outputs stay float32.

    Args:
        source: An fp32 model, file or folder.
        destination: Where the variant goes, of the same form.
        measure: Takes a model's path and returns metric name to value; it is run on both.
        graphs: The graphs of a folder to convert; None converts all.

    Raises:
        ExportError: The model is a variant already, cannot be converted, or the measurements do not fit together.
        ModelError: The source is not a model of ours.
    """
    converters = dict.fromkeys(graphs, _to_fp16) if graphs is not None else _to_fp16
    return _write_variant(source, destination, "fp16", converters, measure)


def quantise_dynamic(
    source: PathLike, destination: PathLike, *, measure: Measure, graphs: Iterable[str] | None = None
) -> VariantReport:
    """Write an int8 variant that finds the scale of each activation when it runs: no calibration, a small file.

    Args:
        source: An fp32 model, file or folder.
        destination: Where the variant goes, of the same form.
        measure: Takes a model's path and returns metric name to value; it is run on both.
        graphs: The graphs of a folder to convert; None converts all.

    Raises:
        ExportError: The model is a variant already, cannot be converted, or the measurements do not fit together.
        ModelError: The source is not a model of ours.
    """
    converters = dict.fromkeys(graphs, _to_dynamic_int8) if graphs is not None else _to_dynamic_int8
    return _write_variant(source, destination, "int8-dynamic", converters, measure)


def quantise_static(
    source: PathLike, destination: PathLike, calibration: Calibration | Mapping[str, Calibration], *, measure: Measure
) -> VariantReport:
    """Write an int8 variant with fixed scales (QDQ, weights per channel, QUInt8 activations).

    Args:
        source: An fp32 model, file or folder.
        destination: Where the variant goes, of the same form.
        calibration: Real inputs, each ``{input name: array}``; some tens are enough. For a folder, graph name to such
            inputs: the graphs that are named are converted, the others stay as they are.
        measure: Takes a model's path and returns metric name to value; it is run on both.

    Raises:
        ExportError: The model is a variant already, cannot be converted, there is no calibration data, or the
            measurements do not fit together.
        ModelError: The source is not a model of ours.
    """
    data = calibration if isinstance(calibration, Mapping) else {MAIN_GRAPH: calibration}
    converters = {graph: partial(_to_static_int8, calibration=inputs) for graph, inputs in data.items()}
    return _write_variant(source, destination, "int8-static", converters, measure)


def _write_variant(
    source: PathLike,
    destination: PathLike,
    variant: str,
    converters: Convert | Mapping[str, Convert],
    measure: Measure,
) -> VariantReport:
    manifest, models = read_model(source)
    chosen = converters if isinstance(converters, Mapping) else dict.fromkeys(models, converters)
    _check_request(source, destination, manifest, chosen)
    with staged_model(destination) as place:
        original = _measured(measure, Path(source))
        converted = {**models, **{graph: _converted(graph, models[graph], chosen[graph]) for graph in chosen}}
        self_test, change = _new_self_test(manifest, converted, variant)
        described = manifest.replace(
            variant=variant,
            self_test=self_test,
            metrics={},
            versions={**manifest.versions, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
            thresholds=tuple(
                replace(entry, calibrated_on=f"{entry.calibrated_on} (with the {ORIGINAL} original of this variant)")
                for entry in manifest.thresholds
            ),
        )
        write_model(place, converted, described)
        reopen(place, manifest.task)
        measured = _measured(measure, place)
        if set(measured) != set(original):
            raise ExportError(
                f"measure gave {sorted(original)} for the original and {sorted(measured)} for the variant"
            )
        report = VariantReport(
            path=Path(destination),
            variant=variant,
            original=original,
            measured=measured,
            difference={name: measured[name] - original[name] for name in original},
            size_ratio=_size(converted) / _size(models),
            self_test_change=change,
        )
        described = described.replace(
            metrics={
                **measured,
                "change": {
                    "from": ORIGINAL,
                    "original": original,
                    "difference": report.difference,
                    "size_ratio": report.size_ratio,
                    "self_test_max_abs": change,
                },
            }
        )
        json_of(described)
        write_model(place, converted, described)
    return report


def _check_request(source: PathLike, destination: PathLike, manifest: Manifest, chosen: Mapping[str, Any]) -> None:
    if manifest.variant != ORIGINAL:
        raise ExportError(f"{source} is the variant {manifest.variant!r}: make variants from the {ORIGINAL} original")
    unknown = sorted(set(chosen) - set(manifest.graphs))
    if unknown or not chosen:
        raise ExportError(f"graphs {unknown} were chosen, {source} has {list(manifest.graphs)}")
    if Path(source).resolve() == Path(destination).resolve():
        raise ExportError(f"{destination} is the original: a variant needs a place of its own")
    if is_single_file(source) != is_single_file(destination):
        raise ExportError(f"{source} and {destination} must both be .onnx files, or both folders")


def _measured(measure: Measure, path: Path) -> dict[str, float]:
    values = {str(name): float(value) for name, value in measure(path).items()}
    broken = sorted(name for name, value in values.items() if not math.isfinite(value))
    if broken or not values:
        raise ExportError(f"measure gave {values} for {path}: it must return at least one metric, all finite numbers")
    return values


def _converted(graph: str, model: ModelProto, convert: Convert) -> ModelProto:
    before = describe_graph(model)
    copy = ModelProto()
    copy.CopyFrom(model)
    try:
        with _quiet():
            result = convert(copy)
    except ExportError:
        raise
    except Exception as error:  # the converters raise whatever they meet
        raise ExportError(f"graph {graph!r} cannot be converted: {type(error).__name__}: {error}") from error
    strip(result)
    drop_unused_domains(result)
    after = describe_graph(result)
    if (after.inputs, after.outputs) != (before.inputs, before.outputs):
        raise ExportError(f"graph {graph!r} came out with other inputs or outputs: {after}, not {before}")
    return result


def _to_fp16(model: ModelProto) -> ModelProto:
    return convert_float_to_float16(model, keep_io_types=True)


def _to_dynamic_int8(model: ModelProto) -> ModelProto:
    with _prepared(model) as (prepared, result):
        # ConvInteger takes unsigned weights only
        quantize_dynamic(prepared, result, weight_type=QuantType.QUInt8)
        return onnx.load(str(result))


def _to_static_int8(model: ModelProto, calibration: Calibration) -> ModelProto:
    with _prepared(model) as (prepared, result):
        quantize_static(
            prepared,
            result,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(str(result))


@contextmanager
def _prepared(model: ModelProto) -> Iterator[tuple[Path, Path]]:
    """Yield the file of the optimised graph that quantisation wants, and a place for its result."""
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, result = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "result"))
        onnx.save(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        yield prepared, result


class _Reader(CalibrationDataReader):
    """onnxruntime's interface to calibration data."""

    def __init__(self, inputs: Calibration) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        entry = next(self._inputs, None)
        return dict(entry) if entry is not None else None


def _new_self_test(manifest: Manifest, models: Mapping[str, ModelProto], variant: str) -> tuple[SelfTest | None, float]:
    """The variant's own outputs on the original's inputs, and how far they are from the original's.

    int8 kernels round differently from one processor to the next, by about as much as quantisation itself changed the
    result: the tolerance is that change, where it is more than the usual one.
    """
    old = manifest.self_test
    if old is None:
        return None, 0.0
    new = make_self_test(old.graph, open_session(models[old.graph]), old.inputs)
    change = max(
        float(np.abs(new.outputs[name].astype(np.float64) - old.outputs[name].astype(np.float64)).max(initial=0.0))
        for name in old.outputs
    )
    largest = max(float(np.abs(array.astype(np.float64)).max(initial=0.0)) for array in new.outputs.values())
    usual = FP16_TOLERANCE * largest if variant == "fp16" else change
    return replace(new, atol=max(new.atol, usual)), change


def _size(models: Mapping[str, ModelProto]) -> int:
    return sum(model.ByteSize() for model in models.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """The converters warn about what is normal here: tiny weights that become zero, data that calibration reads."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
