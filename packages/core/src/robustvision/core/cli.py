"""What every command line of robustvision shares, and the umbrella command ``robustvision``.

A domain's ``cli.py`` is plain typer: it takes its option types from here, and ends in ``run(app)``. Nothing heavy is
imported at the top of a ``cli.py``, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core
import typer.main

from robustvision.core.errors import InputError, RobustVisionError

DOMAINS = "robustvision.domains"

WorkDir = Annotated[Path, typer.Option("--work-dir", help="Folder for checkpoints, logs and the report.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
CfgOptions = Annotated[
    list[str],
    typer.Option("--cfg-options", metavar="KEY=VALUE ...", help="Change the recipe, such as model.loss.k=60."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the work folder.")]


def new_app(help_text: str, *, group: type[typer.core.TyperGroup] = typer.core.TyperGroup) -> typer.Typer:
    """Make an app with the house's settings: help when called without a verb, plain tracebacks for bugs."""
    return typer.Typer(
        cls=group,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: typer.Typer, args: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0 when done, 2 for an error that the user can mend, 1 with a traceback for a bug.

    Args:
        app: The command line.
        args: The arguments; those of the process where None.
    """
    arguments = _spread_cfg_options(sys.argv[1:] if args is None else args)
    try:
        app(arguments)
    except RobustVisionError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "robustvision":
            raise
        extra = "onnx" if error.name == "onnx" else "train"
        _fail(f"this command needs {error.name}: pip install 'robustvision-core[{extra}]'")
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _fail(message: str) -> NoReturn:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(message, err=True)
    sys.exit(2)


def emit(result: Mapping[str, Any], as_json: bool, *, title: str = "") -> None:
    """Print a result: one JSON object for programs, a table for people; under torchrun, in the first process alone."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        from robustvision.core.runtime.files import json_text

        typer.echo(json_text(result))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, show_header=False, title_justify="left")
    for name, value in _flatten(result):  # Text, so that brackets in a value are not taken for markup
        table.add_row(Text(name), Text(f"{value:.4g}" if isinstance(value, float) else str(value)))
    Console().print(table)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows


def _spread_cfg_options(arguments: Sequence[str]) -> list[str]:
    """Let one ``--cfg-options`` take several ``key=value``, as users of the mm libraries type it."""
    spread: list[str] = []
    taking = False
    for argument in arguments:
        is_value = taking and "=" in argument and not argument.startswith("-")
        if is_value and spread[-1] != "--cfg-options":
            spread.append("--cfg-options")
        spread.append(argument)
        taking = argument == "--cfg-options" or is_value
    return spread


def domain_names() -> list[str]:
    """Return the names of the domain packages that are installed."""
    return sorted(entry.name for entry in importlib.metadata.entry_points(group=DOMAINS))


class DomainGroup(typer.core.TyperGroup):
    """The umbrella's commands: its own, and one sub-command a domain package, found by entry point."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the umbrella's own commands, then the domains."""
        return [*super().list_commands(ctx), *domain_names()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one command; a domain's is loaded only when it is asked for."""
        for entry in importlib.metadata.entry_points(group=DOMAINS, name=cmd_name):
            command = typer.main.get_command(entry.load())
            command.name = cmd_name
            return command
        return super().get_command(ctx, cmd_name)


app = new_app("Vision pipelines that stay right when the data is not.", group=DomainGroup)


@app.callback()
def _umbrella() -> None:
    """Vision pipelines that stay right when the data is not."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what is installed, what is missing or broken, and how to mend it."""
    from robustvision.core.doctor import examine

    report = examine()
    if as_json:
        emit(report.as_dict(), True)
    else:
        emit({**report.versions, **report.facts}, False, title="robustvision doctor")
        for finding in report.findings:
            typer.secho(f"{finding.level}: ", fg=finding.colour, bold=True, nl=False)
            typer.echo(f"{finding.what}\n  {finding.advice}")
        if not report.findings:
            typer.secho("nothing is wrong", fg="green")
    if report.is_broken:
        raise typer.Exit(1)


@app.command()
def info(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or a folder of graphs with manifest.json.")],
    check: Annotated[bool, typer.Option("--check", help="Run the model on its self-test vector.")] = False,
    snippet: Annotated[bool, typer.Option("--snippet", help="Print the Python that runs this model.")] = False,
    as_json: Json = False,
) -> None:
    """Tell what a model is, from the manifest in its file."""
    from robustvision.core.info import summary
    from robustvision.core.runtime.session import open_model

    if snippet and (check or as_json):
        raise InputError("--snippet prints Python alone: leave --check and --json out")
    opened = open_model(model)
    if snippet:
        from robustvision.core.runtime.snippet import python_snippet

        typer.echo(python_snippet(opened.manifest, model))
        return
    result: dict[str, Any] = {**summary(opened.manifest), "sha256": opened.sha256}
    if check:
        outcome = opened.self_test()
        result["self_test"] = {"max_abs": outcome.max_abs, "atol": outcome.atol, "ok": outcome.ok}
    emit(result, as_json, title=str(model))
    if check and not outcome.ok:
        raise InputError(
            f"{model} answers its self-test with a difference of {outcome.max_abs:.3g}, allowed is {outcome.atol:.3g}: "
            "the file was changed or this machine computes wrongly; fetch or export the file again"
        )


@app.command()
def demo(
    domains: Annotated[list[str] | None, typer.Argument(help="The domains to run; all that are installed.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the models, pictures and reports.")] = Path("demo-out"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train, evaluate, export and run every domain on synthetic data, and write a report with pictures."""
    from robustvision.core.demo import run_demos

    emit(run_demos(domains or None, out, seed=seed, quiet=quiet or as_json), as_json, title="robustvision demo")


losses_app = new_app("Losses over classes: which there are, and what each promises when labels are wrong.")
app.add_typer(losses_app, name="losses")


@losses_app.command("list")
def list_losses(as_json: Json = False) -> None:
    """List the losses over classes, by module."""
    from robustvision.core.methods.examined_loss import losses_over_classes, what_it_is

    by_module: dict[str, dict[str, str]] = {}
    for name, loss in losses_over_classes().items():
        by_module.setdefault(loss.__module__.rpartition(".")[2], {})[name] = what_it_is(loss)
    emit(by_module, as_json, title="robustvision.core.losses")


@losses_app.command()
def card(
    name: Annotated[str, typer.Argument(help="A loss, such as gce, or the dotted path of your own.")],
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting; may repeat.")] = [],  # noqa: B006
    classes: Annotated[int, typer.Option("--classes", min=2, max=1000, help="Number of classes.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write plots too: a .png, or a page as .html.")] = None,
) -> None:
    """Measure a loss: symmetry, bounds, weights by probability, temperature, consistency, dtype safety."""
    from robustvision.core.methods.robustness_card import robustness_card
    from robustvision.core.training.options import parse_cfg_options

    for setting in settings:
        if not setting.partition("=")[0].isidentifier() or "=" not in setting:
            raise InputError(f"--set {setting}: expected a setting and its value, as --set q=0.5")
    write = None
    if out is not None:
        from robustvision.core.report.loss_card import card_writer

        write = card_writer(out)
    result = robustness_card(name, classes, seed=seed, **parse_cfg_options(settings))
    emit(result.as_dict() if as_json else result.lines(), as_json, title=result.title)
    if write is not None:
        path = write(result)
        if not as_json:
            typer.echo(f"written: {path}")


def main() -> None:
    """Run the umbrella command."""
    run(app)
