import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.face import metrics


@pytest.fixture
def labelled():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 40, 1300)  # several blocks, identities spread over them
    return rng.normal(size=(1300, 6)) + 2 * rng.normal(size=(40, 6))[labels], labels


def brute_force(embeddings, labels):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(labels), 1)
    scores, same = (unit[first] * unit[second]).sum(1), labels[first] == labels[second]
    return scores[same], scores[~same], labels[first][same]


def test_every_pair_is_scored_once(labelled):
    embeddings, labels = labelled
    genuine, impostor = metrics.pair_scores(embeddings, labels)
    expected_genuine, expected_impostor, _ = brute_force(embeddings, labels)
    np.testing.assert_allclose(np.sort(genuine), np.sort(expected_genuine), atol=1e-6)
    np.testing.assert_allclose(np.sort(impostor), np.sort(expected_impostor), atol=1e-6)


def test_the_owners_of_genuine_scores_come_in_their_order(labelled):
    embeddings, labels = labelled
    genuine, _ = metrics.pair_scores(embeddings, labels)
    owners = metrics.genuine_identities(labels)
    expected, _, whose = brute_force(embeddings, labels)
    assert owners.shape == genuine.shape
    for identity in (0, 17, 39):
        np.testing.assert_allclose(
            np.sort(genuine[owners == identity]), np.sort(expected[whose == identity]), atol=1e-6
        )


def test_lengths_and_order_do_not_matter(labelled):
    embeddings, labels = labelled
    order = np.random.default_rng(1).permutation(len(labels))
    scaled = embeddings * np.random.default_rng(2).uniform(0.1, 9, (len(labels), 1))
    first, second = (
        metrics.verification_metrics(embeddings, labels),
        metrics.verification_metrics(scaled[order], labels[order]),
    )
    assert first == pytest.approx(second, abs=1e-5)


def test_perfect_and_useless_embeddings():
    labels = np.repeat(np.arange(50), 4)
    perfect = metrics.verification_metrics(np.eye(50)[labels], labels)
    assert (perfect["tar@far=0.001"], perfect["auc"], perfect["eer"]) == (1.0, 1.0, 0.0)
    useless = metrics.verification_metrics(np.random.default_rng(0).normal(size=(200, 16)), labels)
    assert useless["auc"] == pytest.approx(0.5, abs=0.05)
    assert useless["tar@far=0.01"] < 0.05


def test_a_rate_that_cannot_be_measured_is_nan_and_warns():
    labels = np.repeat(np.arange(4), 2)
    with pytest.warns(UserWarning, match="cannot be measured"):
        result = metrics.verification_metrics(np.random.default_rng(0).normal(size=(8, 4)), labels)
    assert np.isnan(result["tar@far=0.001"])


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (np.ones((3, 2)), [1, 1], "expected"),
        (np.ones((3, 2)), [1, 1, 1], "two identities"),
        (np.ones((3, 2)), [1, 2, 3], "one identity"),
        (np.array([[1.0, 0], [0, 0], [1, 1]]), [1, 1, 2], "embedding 1 is zero"),
        (np.array([[1.0, 0], [1, 1], [np.nan, 0]]), [1, 1, 2], "not finite"),
        (np.ones((metrics.MAX_IMAGES + 1, 1)), np.ones(metrics.MAX_IMAGES + 1), "too many pairs"),
    ],
)
def test_bad_input_says_what_came(embeddings, labels, message):
    with pytest.raises(InputError, match=message):
        metrics.pair_scores(embeddings, labels)
