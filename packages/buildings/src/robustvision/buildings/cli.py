"""The command line of buildings: ``robustvision-buildings``, or ``robustvision buildings``."""

from __future__ import annotations

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
def predict(
    rasters: Annotated[list[Path], typer.Argument(help="GeoTIFF, COG, VRT, PNG or JPEG.")],
    model: Model = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help=".gpkg or .geojson for polygons, .tif for probabilities; a folder for many rasters."
        ),
    ] = Path("buildings.gpkg"),
    target: Annotated[
        Literal["roof", "footprint", "shape"] | None,
        typer.Option("--target", help="What is wanted; what the model shows where not given."),
    ] = None,
    heights: Annotated[
        Path | None,
        typer.Option("--heights", help="For footprints: a map with height_m, or a CSV with number and height_m."),
    ] = None,
    default_height_m: Annotated[
        float | None, typer.Option("--default-height", help="For footprints: metres, where --heights says nothing.")
    ] = None,
    off_nadir: Annotated[
        float | None, typer.Option("--off-nadir", help="For footprints: angle between view and vertical, degrees.")
    ] = None,
    azimuth: Annotated[
        float | None, typer.Option("--azimuth", help="For footprints: where tops lean, degrees clockwise from north.")
    ] = None,
    aoi: Annotated[Path | None, typer.Option("--aoi", help="A vector file: results only inside its polygons.")] = None,
    probability: Annotated[
        Path | None, typer.Option("--probability", help="Keep the probabilities beside the polygons, as GeoTIFF.")
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Least probability of a building.")] = 0.5,
    min_area_m2: Annotated[float, typer.Option("--min-area", help="Smallest building, in square metres.")] = 10.0,
    simplify_m: Annotated[
        float | None, typer.Option("--simplify", help="Tolerance of outlines in metres; one pixel where not given.")
    ] = None,
    regularise: Annotated[bool, typer.Option(help="Square the edges of buildings that allow it.")] = True,
    bands: Annotated[
        list[int] | None, typer.Option("--band", help="Red, green and blue, from 1; repeat three times.")
    ] = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option("--scale", help="For 16 bits and floats: values that become 0 and 255."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Tiles of one call; a GPU gains from more, a CPU does not.")
    ] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on with what an interrupted call has finished.")] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Map the buildings of rasters as polygons, in constant memory, without torch; goes on after a kill."""
    from robustvision.buildings.predict import predict_rasters

    result = predict_rasters(
        rasters,
        model=model,
        out=out,
        heights=heights,
        default_height_m=default_height_m,
        off_nadir_deg=off_nadir,
        azimuth_deg=azimuth,
        batch_size=batch_size,
        target=target,
        probability=probability,
        threshold=threshold,
        min_area_m2=min_area_m2,
        simplify_m=simplify_m,
        regularise=regularise,
        workers=workers,
        quiet=quiet or as_json,
        aoi=aoi,
        bands=bands,
        scale=scale,
        resume=resume,
    )
    emit(result, as_json, title=str(out))
    if result.get("failed"):
        raise typer.Exit(1)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="The folder to write; an older one of this command there is replaced.")],
    layout: Annotated[
        str,
        typer.Option(
            "--layout", help="city (GeoTIFF and GeoPackage), folder, whu, inria, massachusetts, coco or bonai."
        ),
    ] = "city",
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many scenes; 16 where not given.")] = None,
    size_px: Annotated[int, typer.Option("--size", min=32, help="Side of a scene, or of the city, in pixels.")] = 512,
    label: Annotated[
        str | None,
        typer.Option("--label", help="What masks show: roof, footprint, shape or noisy; roof where not given."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render off-nadir scenes with exact labels in the layout of a public data set, or a city with its map."""
    from robustvision.buildings.predict import synthesize_scenes

    result = synthesize_scenes(
        out, layout=layout, count=count, size_px=size_px, label=label, seed=seed, quiet=quiet or as_json
    )
    emit(result, as_json, title=str(out))


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
    heights: Annotated[
        Path, typer.Option("--heights", help="CSV with height_m and, where known, area_m2; or a map with height_m.")
    ],
    gsd: Annotated[float, typer.Option("--gsd", help="Ground sampling distance, metres.")],
    off_nadir: Annotated[float, typer.Option("--off-nadir", help="Angle between view and vertical, degrees.")],
    as_json: Json = False,
) -> None:
    """Say what an acquisition would give: displacements, quality of a map's labels, clean tiles worth labelling."""
    from robustvision.buildings.planning import NOTE, plan_city
    from robustvision.core.evaluation.results import markdown_table

    result = plan_city(heights, gsd_m=gsd, off_nadir_deg=off_nadir)
    if as_json:
        emit(result, True)
        return
    typer.echo(f"{markdown_table(result['classes'])}\n\n{NOTE}")


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
