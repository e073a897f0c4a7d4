"""The command line of buildings: ``robustvision-buildings``, or ``robustvision buildings``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from robustvision.core.cli import CfgOptions, Device, Json, Quiet, Resume, Seed, WorkDir, emit, new_app, run

app = new_app("Buildings from off-nadir imagery: adapt to few clean labels, and turn rasters into polygons.")

Data = Annotated[
    Path | None, typer.Option("--data", help="The root of a data set, with --kind; rendered scenes where not given.")
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", help="The layout of --data: whu, inria, massachusetts, spacenet4, bonai, coco or folder."),
]
Images = Annotated[Path | None, typer.Option("--images", help="A folder of images, with --labels.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Polygons in any GDAL vector file, drawn on each image's own grid; or a mask folder."
    ),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="An exported model; the shipped synthetic one where not given.")
]
Target = Annotated[
    Literal["roof", "footprint", "shape"],
    typer.Option("--target", help="What counts as building: the visible roof, the footprint, or shape."),
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="tiny, small, paper, or a file of your own.")] = "tiny",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="noisy-only, clean-only, mixed, oracle, sda, gradual, kd or dml; the recipe's own where not given.",
        ),
    ] = None,
    data: Data = None,
    kind: Kind = None,
    images: Images = None,
    labels: Labels = None,
    clean_images: Annotated[Path | None, typer.Option("--clean-images", help="The few well-labelled images.")] = None,
    clean_labels: Annotated[Path | None, typer.Option("--clean-labels", help="Their labels, as --labels.")] = None,
    target: Target = "roof",
    work_dir: WorkDir = Path("runs/buildings"),
    seed: Seed = 0,
    device: Device = "auto",
    cfg_options: CfgOptions = [],  # noqa: B006 (typer reads the default, nobody changes it)
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe on rendered scenes or your own images, and adapt it to clean labels; writes report.html."""
    from robustvision.buildings.training import train_buildings

    result = train_buildings(
        recipe,
        method=method,
        data=data,
        kind=kind,
        images=images,
        labels=labels,
        clean_images=clean_images,
        clean_labels=clean_labels,
        target=target,
        work_dir=work_dir,
        seed=seed,
        device=device,
        cfg_options=cfg_options,
        resume=resume,
        quiet=quiet or as_json,
    )
    emit(result, as_json, title=f"trained {recipe}")


@app.command()
def evaluate(
    model: Model = None,
    data: Data = None,
    kind: Kind = None,
    images: Images = None,
    labels: Labels = None,
    target: Target = "roof",
    work_dir: WorkDir = Path("runs/buildings-evaluation"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model in pixels, buildings and polygons, on a data set, your own images, or rendered scenes."""
    from robustvision.buildings.evaluate import evaluate_data
    from robustvision.core.evaluation.results import markdown_table

    result = evaluate_data(
        model,
        data=data,
        kind=kind,
        images=images,
        labels=labels,
        target=target,
        work_dir=work_dir,
        seed=seed,
        quiet=quiet or as_json,
    )
    if as_json:
        emit(result, True)
        return
    for title, rows in result["tables"].items():
        typer.echo(f"{title}\n{markdown_table(rows)}\n")
    emit({name: result[name] for name in ("data", "model", "sha256", "report")}, False)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The work folder of a training run.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")] = Path("buildings.onnx"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export what a run ended with as one ONNX file, and check it against torch."""
    from robustvision.buildings.export import export_run

    emit(export_run(source, out, quiet=quiet or as_json), as_json, title=str(out))


@app.command()
def check(
    data: Data = None,
    kind: Kind = None,
    images: Images = None,
    labels: Labels = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for what spoils training: inverted masks, shifted labels, wrong sizes, leaks; exit code 1 on an error."""
    from robustvision.buildings.data import check_dataset, choose_sources

    findings = check_dataset(choose_sources(data, kind, images, labels), quiet=quiet or as_json)
    if as_json:
        emit({"findings": [vars(finding) for finding in findings]}, True)
    else:
        for finding in findings:
            typer.echo(f"{finding.level}: {finding.where}: {finding.what}\n  {finding.advice}")
        typer.echo(f"{data or images}: {len(findings)} findings")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def plan(
    gsd: Annotated[float, typer.Option("--gsd", help="Ground sampling distance in metres a pixel.")],
    off_nadir: Annotated[float, typer.Option("--off-nadir", help="Angle between view and vertical, in degrees.")],
    heights: Annotated[Path, typer.Option("--heights", help="CSV with height_m, and area_m2 where known.")],
    as_json: Json = False,
) -> None:
    """Say how far buildings will lean, how good footprint labels will be, and how many clean tiles are worth it."""
    from robustvision.buildings.plan import plan as make_plan
    from robustvision.buildings.plan import read_heights
    from robustvision.core.evaluation.results import markdown_table

    rows = [dataclasses.asdict(one) for one in make_plan(*read_heights(heights), gsd_m=gsd, off_nadir_deg=off_nadir)]
    if as_json:
        emit({"classes": rows}, True)
        return
    typer.echo(markdown_table(rows))
    typer.echo("F1 and tiles: measured on rendered scenes of the nearest lean, no promise for a real city.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, pictures and report.")] = Path("demo-out"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render a city, train on misaligned labels, adapt, compare, export, and map it without torch; writes a report."""
    from robustvision.core.demo import run_demos

    emit(run_demos(["buildings"], out, seed=seed, quiet=quiet or as_json), as_json, title="buildings demo")


def main() -> None:
    """Run ``robustvision-buildings``."""
    run(app)
