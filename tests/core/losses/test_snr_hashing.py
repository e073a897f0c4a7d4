"""Learning binary codes: what the logistic term and the codes mean, and that training finds codes that retrieve."""

import math

import pytest
import torch
from torch import nn

from robustvision.core.evaluation import hamming_mean_average_precision
from robustvision.core.losses import hash_codes, hashing_loss, snr_distance


def test_between_balanced_codes_the_distance_is_the_hamming_distance_over_a_quarter_of_the_bits():
    code = torch.tensor([1.0, -1.0] * 4)
    flipped = [code * torch.tensor([-1.0] * k + [1.0] * (8 - k)) for k in (0, 2, 4, 8)]  # two bits keep the balance
    distances = snr_distance(code[None], torch.stack(flipped))
    assert distances.tolist()[0] == pytest.approx([0, 1, 2, 4], abs=1e-6)


def test_value_at_ideal_codes():
    """Two classes with opposite codes: distances 0 and 4, and no bit is off."""
    codes = torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))
    assert hashing_loss(codes, torch.tensor([0, 0, 1])).item() == pytest.approx(expected, rel=1e-5)


def test_codes_are_signs():
    assert hash_codes(torch.tensor([[0.2, -0.1], [0.0, -5.0]])).tolist() == [[True, False], [True, False]]


def test_training_finds_codes_that_retrieve():
    torch.manual_seed(0)
    labels = torch.arange(120) % 4
    x = torch.randn(4, 16)[labels] + 0.8 * torch.randn(120, 16)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 12))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)

    def score():
        codes = hash_codes(network(x)).numpy()
        return hamming_mean_average_precision(codes[80:], labels[80:], codes[:80], labels[:80])

    before = score()
    for _ in range(150):
        optimiser.zero_grad()
        hashing_loss(network(x[:80]), labels[:80]).backward()
        optimiser.step()
    assert before < 0.75
    assert score() > 0.95
    assert (network(x).abs() - 1).abs().mean() < 0.4  # and the embeddings are nearly bits
