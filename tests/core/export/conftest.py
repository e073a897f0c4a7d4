"""A toy domain of two graphs: an encoder of pictures, and a recurrent decoder that carries a cache between steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustvision.core.export import GraphExport, export_model


class Encoder(nn.Module):
    """Raw pixels in 0..255 to features; normalisation inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32, 6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem((image - 127.5) / 128)))
        return self.head(torch.relu(self.body(x)).mean(dim=(2, 3)))


class Decoder(nn.Module):
    """Features and the cache to a score and the next cache."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, features: torch.Tensor, cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cache = self.cell(features, cache)
        return self.head(cache), cache


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The toy domain, exported as a folder, and its encoder alone as a file."""
    torch.manual_seed(0)
    encoder, decoder = Encoder().eval(), Decoder().eval()
    for name, buffer in encoder.named_buffers():  # statistics as if trained: the export must carry them
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else -0.5))
    encoder_graph = GraphExport(
        encoder,
        (torch.rand(2, 3, 16, 16) * 255,),
        ("image",),
        ("features",),
        value_ranges={"image": (0, 255)},
        descriptions={"image": "RGB, 0 to 255"},
    )
    decoder_graph = GraphExport(
        decoder,
        (torch.randn(2, 6), torch.zeros(2, 5)),
        ("features", "cache"),
        ("score", "next_cache"),
        states={"cache": "next_cache"},
    )
    graphs = {"encoder": encoder_graph, "decoder": decoder_graph}
    root: Path = tmp_path_factory.mktemp("toy")
    report = export_model(
        root / "toy", graphs, task="toy", name="toy-1", licence="Apache-2.0", metrics={"accuracy": 0.5}
    )
    single = export_model(root / "encoder.onnx", {"main": encoder_graph}, task="toy-encoder", name="toy-encoder-1")
    return SimpleNamespace(
        encoder=encoder,
        decoder=decoder,
        graphs=graphs,
        root=root,
        folder=root / "toy",
        report=report,
        file=root / "encoder.onnx",
        single=single,
    )
