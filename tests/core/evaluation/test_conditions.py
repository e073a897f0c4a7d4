import importlib.metadata
from types import SimpleNamespace

import pytest

from robustvision.core.errors import InputError
from robustvision.core.evaluation import places_by_condition, predictor_stamps

SAMPLES = [SimpleNamespace(name=f"s{i}", conditions={"skin": value}) for i, value in enumerate((3, 1, 3))]


def test_places_are_grouped_in_the_order_of_the_values():
    assert places_by_condition(SAMPLES, "skin") == {"3": [0, 2], "1": [1]}
    assert places_by_condition(SAMPLES) == {"all": [0, 1, 2]}
    assert places_by_condition([]) == {}


def test_a_sample_that_does_not_say_the_condition_is_named():
    with pytest.raises(InputError, match="s0 does not say its light; it says skin"):
        places_by_condition(SAMPLES, "light")


def test_a_model_carries_its_hash_and_everybody_the_version():
    version = importlib.metadata.version("robustvision-core")
    stamps = predictor_stamps("robustvision-core", ("model", "pos"), {"model": "abc"})
    assert stamps == {"model": {"version": version, "sha256": "abc"}, "pos": {"version": version}}
