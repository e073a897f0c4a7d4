"""A variant says what it costs, keeps the interface of its original, and never replaces it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from robustvision.core.errors import ExportError, ModelError
from robustvision.core.export import (
    GraphExport,
    export_model,
    quantise_dynamic,
    quantise_static,
    to_fp16,
)
from robustvision.core.runtime import open_model
from robustvision.core.runtime.manifest import Threshold

IMAGES = np.random.default_rng(0).uniform(0, 255, (24, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network wide enough for its weights to outweigh the manifest."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 2), nn.ReLU(), nn.Flatten())
    graph = GraphExport(
        nn.Sequential(nn.BatchNorm2d(3, affine=False), *module, nn.Linear(64 * 9, 32)).eval(),
        (torch.from_numpy(IMAGES[:2]),),
        ("image",),
        ("features",),
        exporter="torchscript",
        opset=17,
        value_ranges={"image": (0, 255)},
    )
    path = tmp_path_factory.mktemp("variants") / "original.onnx"
    threshold = Threshold("same", "cosine", 0.3, "toy pairs")
    export_model(path, {"main": graph}, task="toy", name="toy", thresholds=(threshold,), metrics={"accuracy": 0.7})
    return path


@pytest.fixture(scope="module")
def measure(original: Path) -> Callable[[Path], dict[str, float]]:
    """Agreement with the original's features: a metric that every variant changes."""
    expected = open_model(original).main.run({"image": IMAGES})["features"]

    def cosine(path: Path) -> dict[str, float]:
        found = open_model(path, task="toy").main.run({"image": IMAGES})["features"]
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        return {"cosine": float(((found * expected).sum(axis=1) / norms).mean())}

    return cosine


def calibration() -> Iterator[dict[str, np.ndarray]]:
    return ({"image": image[None]} for image in IMAGES[:12])


MAKERS = {
    "fp16": to_fp16,
    "int8-dynamic": quantise_dynamic,
    "int8-static": lambda source, destination, **options: quantise_static(
        source, destination, calibration(), **options
    ),
}


@pytest.mark.parametrize(
    ("variant", "largest", "smallest_cosine"),
    [
        ("fp16", 0.55, 0.9999),
        ("int8-dynamic", 0.35, 0.99),
        ("int8-static", 0.35, 0.99),
    ],
)
def test_a_variant_carries_the_measured_change(
    original: Path,
    measure: Callable[[Path], dict[str, float]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    variant: str,
    largest: float,
    smallest_cosine: float,
) -> None:
    bytes_before = original.read_bytes()
    report = MAKERS[variant](original, tmp_path / "variant.onnx", measure=measure)
    assert capfd.readouterr() == ("", "")
    assert original.read_bytes() == bytes_before
    assert [file.name for file in tmp_path.iterdir()] == ["variant.onnx"]

    model = open_model(tmp_path / "variant.onnx", task="toy")
    measured = measure(tmp_path / "variant.onnx")["cosine"]
    assert smallest_cosine < measured < 1
    assert model.manifest.variant == report.variant == variant
    assert model.manifest.metrics["cosine"] == pytest.approx(measured, abs=1e-6)
    change = model.manifest.metrics["change"]
    assert change["original"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert change["difference"]["cosine"] == pytest.approx(measured - 1, abs=1e-6)
    assert "accuracy" not in model.manifest.metrics  # was measured on the original
    assert "parity" not in model.manifest.metrics
    assert model.manifest.thresholds[0].calibrated_on == "toy pairs (with the fp32 original of this variant)"

    assert report.size_ratio < largest
    before = {tensor.name: (tensor.dtype, tensor.shape) for tensor in open_model(original).main.spec.outputs}
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in model.main.spec.outputs} == before
    assert model.main.run({"image": IMAGES[:5]})["features"].shape == (5, 32)
    domains = {entry.domain for entry in onnx.load(str(tmp_path / "variant.onnx")).opset_import}
    assert domains <= {"", "ai.onnx"}


@pytest.mark.parametrize("variant", MAKERS)
def test_the_self_test_holds_the_variants_own_outputs(
    original: Path, measure: Callable[[Path], dict[str, float]], tmp_path: Path, variant: str
) -> None:
    report = MAKERS[variant](original, tmp_path / "variant.onnx", measure=measure)
    old, new = (open_model(path).manifest.self_test for path in (original, tmp_path / "variant.onnx"))
    assert old is not None
    assert new is not None
    change = np.abs(new.outputs["features"] - old.outputs["features"]).max()
    assert change > 0
    assert report.self_test_change == pytest.approx(change)
    assert new.atol >= (change if variant != "fp16" else 0.01 * np.abs(new.outputs["features"]).max())
    assert open_model(tmp_path / "variant.onnx").self_test().ok
    # another image is refused by the tolerance: it is not so wide that it proves nothing
    other = open_model(tmp_path / "variant.onnx").main.run({"image": IMAGES[7:8]})["features"]
    assert np.abs(other - new.outputs["features"]).max() > 2 * new.atol


def test_graphs_of_a_folder_are_chosen(toy: SimpleNamespace, tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(6, 3, 6)).astype(np.float32)

    def scores(path: Path) -> dict[str, float]:
        stream = open_model(path).graphs["decoder"].stream()
        return {"score": float(np.mean([stream.step(features=step)["score"] for step in features]))}

    report = to_fp16(toy.folder, tmp_path / "half", graphs=["decoder"], measure=scores)
    assert (tmp_path / "half" / "encoder.onnx").read_bytes() == (toy.folder / "encoder.onnx").read_bytes()
    assert (tmp_path / "half" / "decoder.onnx").read_bytes() != (toy.folder / "decoder.onnx").read_bytes()
    assert 0 < abs(report.difference["score"]) < 1e-2
    data = {"decoder": [{"features": step, "cache": np.zeros((3, 5), np.float32)} for step in features]}
    quantise_static(toy.folder, tmp_path / "small", data, measure=scores)
    manifest = json.loads((tmp_path / "small" / "manifest.json").read_text())
    assert manifest["variant"] == "int8-static"
    assert manifest["graphs"]["decoder"]["states"] == {"cache": "next_cache"}
    assert open_model(tmp_path / "small").graphs["encoder"].run({"image": IMAGES[:3]})["features"].shape == (3, 6)
    with pytest.raises(ExportError, match=r"graphs \['main'\] were chosen"):
        quantise_static(toy.folder, tmp_path / "other", [{"features": features[0]}], measure=scores)


@pytest.mark.parametrize(
    ("value", "message"),
    [({"cosine": float("nan")}, "all finite"), ({}, "at least one metric")],
)
def test_a_measurement_that_says_nothing_is_refused(
    original: Path, tmp_path: Path, value: dict[str, float], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        to_fp16(original, tmp_path / "variant.onnx", measure=lambda path: value)
    assert list(tmp_path.iterdir()) == []


def test_measurements_must_fit_together_and_an_error_leaves_nothing(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="measure gave"):
        to_fp16(original, tmp_path / "variant.onnx", measure=lambda path: {path.parent.name: 1.0})

    def fails_on_the_variant(path: Path) -> dict[str, float]:
        if path != original:
            raise ZeroDivisionError("the data set is gone")
        return {"cosine": 1.0}

    with pytest.raises(ZeroDivisionError):
        to_fp16(original, tmp_path / "variant.onnx", measure=fails_on_the_variant)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_original_is_refused(original: Path, tmp_path: Path) -> None:
    def one(path: Path) -> dict[str, float]:
        return {"one": 1.0}

    with pytest.raises(ExportError, match="a variant needs a place of its own"):
        to_fp16(original, original, measure=one)
    with pytest.raises(ExportError, match=r"both be \.onnx files, or both folders"):
        to_fp16(original, tmp_path / "folder", measure=one)
    with pytest.raises(ExportError, match="No data is collected"):
        quantise_static(original, tmp_path / "variant.onnx", [], measure=one)
    with pytest.raises(ExportError, match="image"):
        quantise_static(original, tmp_path / "variant.onnx", [{"picture": IMAGES[:1]}], measure=one)
    to_fp16(original, tmp_path / "half.onnx", measure=one)
    with pytest.raises(ExportError, match=r"half.onnx is the variant 'fp16'"):
        quantise_dynamic(tmp_path / "half.onnx", tmp_path / "variant.onnx", measure=one)
    (tmp_path / "torn.onnx").write_bytes(original.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"torn\.onnx"):
        to_fp16(tmp_path / "torn.onnx", tmp_path / "variant.onnx", measure=one)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["half.onnx", "torn.onnx"]


def test_a_manifest_that_leads_out_of_its_folder_is_refused(toy: SimpleNamespace, tmp_path: Path) -> None:
    manifest = json.loads((toy.folder / "manifest.json").read_text())
    manifest["graphs"]["encoder"]["file"] = str(toy.folder / "encoder.onnx")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="not inside the folder"):
        to_fp16(tmp_path / "evil", tmp_path / "out", measure=lambda path: {"one": 1.0})
