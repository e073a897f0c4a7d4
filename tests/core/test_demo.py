import json
import sys
from types import ModuleType

import pytest

from robustvision.core import demo
from robustvision.core.errors import InputError


@pytest.fixture
def toy_domain(monkeypatch):
    """A domain that is found like an installed one."""
    module = ModuleType("robustvision.toy.demo")

    def run(out, *, seed, quiet):
        out.mkdir(parents=True)
        (out / "model.onnx").write_bytes(b"x")
        return demo.DemoResult(
            {"score": 0.5 + seed}, {"chance": {"score": 0.1}}, 1e-6, "model.onnx", "r.html", ["p.png"]
        )

    module.run = run
    monkeypatch.setitem(sys.modules, "robustvision.toy", ModuleType("robustvision.toy"))
    monkeypatch.setitem(sys.modules, "robustvision.toy.demo", module)
    monkeypatch.setattr(demo, "domain_names", lambda: ["toy"])


@pytest.mark.usefixtures("toy_domain")
def test_the_summary_has_the_form_that_every_domain_shares(tmp_path):
    summary = demo.run_demos(None, tmp_path / "out", seed=3, quiet=True)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    entry = summary["toy"]
    assert {"metrics", "baseline_metrics", "parity_max_abs", "seconds", "model", "pictures"} <= set(entry)
    assert (entry["model"], entry["pictures"]) == ("toy/model.onnx", ["toy/p.png"])
    assert (tmp_path / "out" / entry["model"]).is_file()
    assert entry["metrics"] == {"score": 3.5}


@pytest.mark.usefixtures("toy_domain")
def test_an_unknown_domain_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match=r"feet.*there are: toy"):
        demo.run_demos(["toy", "feet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_program_without_torch_gives_its_output(tmp_path):
    file = tmp_path / "answer.txt"
    assert demo.run_without_torch("import sys\nprint(sys.argv[1])", file).strip() == str(file)


def test_a_program_that_imports_torch_or_fails_is_no_edge_program(tmp_path):
    with pytest.raises(RuntimeError, match="torch was imported"):
        demo.run_without_torch("import sys\nsys.modules['torch'] = sys")
    with pytest.raises(RuntimeError, match="no such reading"):
        demo.run_without_torch("raise ValueError('no such reading')")
