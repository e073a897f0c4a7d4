import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from robustvision.core import cli
from robustvision.core.errors import InputError

BIN = Path(sys.executable).parent


def exit_code(app, args):
    with pytest.raises(SystemExit) as stop:
        cli.run(app, args)
    return stop.value.code


@pytest.fixture
def app():
    app = cli.new_app("A toy.")

    @app.callback()
    def toy():
        """A toy."""

    @app.command()
    def fail(kind: str):
        raise {
            "input": InputError("labels hold 12: pass num_classes=13"),
            "bug": KeyError("lost"),
            "extra": ModuleNotFoundError("No module named 'torch'", name="torch"),
            "hole": ModuleNotFoundError("No module named 'robustvision.x'", name="robustvision.x"),
        }[kind]

    @app.command()
    def options(cfg_options: cli.CfgOptions = [], seed: cli.Seed = 0):  # noqa: B006
        cli.emit({"options": cfg_options, "seed": seed}, True)

    return app


def test_a_user_error_is_one_line_and_exit_code_2(app, capsys):
    assert exit_code(app, ["fail", "input"]) == 2
    captured = capsys.readouterr()
    assert captured.err.strip() == "error: labels hold 12: pass num_classes=13"
    assert captured.out == ""


@pytest.mark.parametrize(("kind", "error"), [("bug", KeyError), ("hole", ModuleNotFoundError)])
def test_a_bug_is_not_swallowed(app, kind, error):
    with pytest.raises(error):
        cli.run(app, ["fail", kind])


def test_a_missing_library_names_the_extra(app, capsys):
    assert exit_code(app, ["fail", "extra"]) == 2
    assert "needs torch: pip install 'robustvision-core[train]'" in capsys.readouterr().err


def test_wrong_usage_is_exit_code_2(app):
    assert exit_code(app, ["options", "--seed", "-1"]) == 2
    assert exit_code(app, ["nonsense"]) == 2


@pytest.mark.parametrize(
    "args",
    [
        ["--cfg-options", "a=1", "b.c=[1,2]", "--seed", "3"],
        ["--cfg-options", "a=1", "--cfg-options", "b.c=[1,2]", "--seed", "3"],
        ["--seed", "3", "--cfg-options=a=1", "--cfg-options", "b.c=[1,2]"],
    ],
)
def test_cfg_options_take_several_values_or_repeat(app, capsys, args):
    assert exit_code(app, ["options", *args]) == 0
    assert json.loads(capsys.readouterr().out) == {"options": ["a=1", "b.c=[1,2]"], "seed": 3}


def test_emit_prints_valid_json_and_a_readable_table(capsys):
    cli.emit({"tar": 0.123456, "nested": {"path": Path("x")}}, True)
    assert json.loads(capsys.readouterr().out) == {"tar": 0.123456, "nested": {"path": "x"}}
    cli.emit({"tar": 0.123456, "nested": {"shape": "[batch, 3]"}}, False, title="[a]")
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("[a]", "0.1235", "nested.shape", "[batch, 3]"))


@pytest.mark.parametrize(
    "command",
    [["robustvision"], ["robustvision-face"], ["robustvision", "face", "train"], ["robustvision", "losses", "card"]],
)
def test_help_loads_no_heavy_library(command):
    code = (
        "import sys; sys.argv = sys.argv[1:]\n"
        "from robustvision.core import cli; from robustvision.face import cli as face\n"
        "try: (face if sys.argv[0] == 'robustvision-face' else cli).main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'mmengine', 'cv2', 'onnxruntime', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_umbrella_and_the_domain_script_are_the_same_command():
    helps = [
        subprocess.run([*command, "train", "--help"], capture_output=True, text=True, check=True).stdout.splitlines()
        for command in ([BIN / "robustvision", "face"], [BIN / "robustvision-face"])
    ]
    assert "robustvision face train" in "".join(helps[0])
    assert "robustvision-face train" in "".join(helps[1])
    assert helps[0][3:] == helps[1][3:]


def test_an_unknown_domain_is_an_error_that_names_the_installed_ones(capsys):
    assert exit_code(cli.app, ["demo", "feet"]) == 2
    assert "face, rppg" in capsys.readouterr().err


def test_a_missing_typer_argument_is_a_usage_error():
    assert exit_code(cli.app, ["info"]) == 2
    assert isinstance(cli.app, typer.Typer)


def test_losses_are_listed_by_module(capsys):
    assert exit_code(cli.app, ["losses", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["gce"].keys() == {"GCELoss", "TruncatedGCELoss"}
    assert listed["multiclass_margin"]["CrammerSingerLoss"].startswith("Crammer-Singer: the worst margin")
    assert not any("\\" in line or ":func:" in line for lines in listed.values() for line in lines.values())


def test_the_card_of_a_loss_as_json_and_as_a_table(capsys, tmp_path):
    assert exit_code(cli.app, ["losses", "card", "gce", "--set", "q=0.5", "--classes", "5", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["name"], card["settings"], card["num_classes"]) == ("GCELoss", {"q": 0.5}, 5)
    assert card["consistency"]["tau"] == pytest.approx(1.5)
    assert exit_code(cli.app, ["losses", "card", "MAE", "--out", str(tmp_path / "card.png")]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("MAELoss()", "0 (symmetric)", "0 to 2", "written:"))
    assert (tmp_path / "card.png").stat().st_size > 0


def test_a_loss_of_ones_own_has_a_card_too(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(
        "def half(logits, target, *, index=None, weight=None, power=1.0):\n"
        "    return power * -logits.log_softmax(1).gather(1, target[:, None]).squeeze(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert exit_code(cli.app, ["losses", "card", "my_losses.half", "--set", "power=0.5", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["consistency"]["factor"] == pytest.approx(0.5)
    assert exit_code(cli.app, ["losses", "card", "my_losses.half", "--set", "powre=0.5"]) == 2
    assert "half has no setting powre: did you mean power?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gcee"], "did you mean GCELoss?"),
        (["gce", "--set", "k=3"], "GCELoss has no setting k: it takes ignore_index, q"),
        (["gce", "--set", "q"], "--set q: expected a setting and its value"),
        (["gce", "--out", "card.pdf"], "written as .png or .html"),
    ],
)
def test_a_card_that_cannot_be_made_is_one_line(capsys, args, message):
    assert exit_code(cli.app, ["losses", "card", *args]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
