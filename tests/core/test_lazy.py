import subprocess
import sys

import pytest

from robustvision.core.errors import MissingExtraError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose front names a module that needs a library that is not there."""
    folder = tmp_path / "robustvision_lazy_toy"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from robustvision.core.lazy import attach_stub\n"
        "__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)\n"
    )
    (folder / "__init__.pyi").write_text(
        "from .heavy import Heavy as Heavy\nfrom .light import LIGHT as LIGHT\nfrom .broken import Broken as Broken\n"
    )
    (folder / "heavy.py").write_text("import no_such_library\nHeavy = 1\n")
    (folder / "light.py").write_text("LIGHT = 7\n")
    (folder / "broken.py").write_text("import robustvision.core.no_such_room\nBroken = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import robustvision_lazy_toy

    yield robustvision_lazy_toy
    for name in [name for name in sys.modules if name.startswith("robustvision_lazy_toy")]:
        del sys.modules[name]


def test_a_missing_library_names_the_extra(package):
    with pytest.raises(MissingExtraError, match=r"Heavy needs no_such_library: pip install '.*\[train\]'"):
        package.Heavy  # noqa: B018


def test_light_names_load_without_the_extra(package):
    assert package.LIGHT == 7
    assert dir(package) == ["Broken", "Heavy", "LIGHT"]


def test_a_hole_in_robustvision_itself_is_not_blamed_on_an_extra(package):
    with pytest.raises(ModuleNotFoundError, match="no_such_room") as error:
        package.Broken  # noqa: B018
    assert not isinstance(error.value, MissingExtraError)


def test_importing_every_front_pulls_no_torch():
    fronts = ["core", "core.losses", "core.training", "core.export", "core.evaluation", "core.report", "core.runtime"]
    code = (
        f"import importlib, sys\nfor name in {[*fronts, 'face', 'face.data', 'face.networks']}:\n"
        "    importlib.import_module(f'robustvision.{name}')\n"
        "print({'torch', 'mmengine', 'albumentations', 'matplotlib', 'scipy'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
