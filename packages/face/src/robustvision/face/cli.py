"""The command line of face recognition: ``robustvision-face``, or ``robustvision face``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustvision.core.cli import CfgOptions, Device, Json, Quiet, Resume, Seed, WorkDir, emit, new_app, run

app = new_app("Face recognition that survives mislabelled training data.")

DATA_HELP = (
    "A folder with one sub-folder a person, or a list file (path, blank, label); rendered faces where not given."
)
Data = Annotated[Path | None, typer.Option("--data", help=DATA_HELP)]
Landmarks = Annotated[
    Path | None,
    typer.Option("--landmarks", help="CSV with five landmarks an image, for photos that are not aligned yet."),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="The ONNX file; the shipped synthetic one where not given.")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="tiny, small, paper, or a file of your own.")] = "tiny",
    data: Data = None,
    val_data: Annotated[
        Path | None, typer.Option("--val-data", help="Identities to validate on; none of them may be in --data.")
    ] = None,
    landmarks: Landmarks = None,
    work_dir: WorkDir = Path("runs/face"),
    seed: Seed = 0,
    device: Device = "auto",
    cfg_options: CfgOptions = [],  # noqa: B006 (typer reads the default, nobody changes it)
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe, on rendered faces or on your own; writes checkpoints, log, run.json and report.html."""
    from robustvision.face.training import train_face

    result = train_face(
        recipe,
        data=data,
        val_data=val_data,
        landmarks=landmarks,
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
    landmarks: Landmarks = None,
    work_dir: WorkDir = Path("runs/face-evaluation"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Write the thresholds found on this data into the model's manifest.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure an exported model on identities it never saw: TAR@FAR, AUC, EER, 10-fold accuracy, with intervals."""
    from robustvision.face.evaluation import evaluate_face

    result = evaluate_face(
        model,
        data=data,
        landmarks=landmarks,
        work_dir=work_dir,
        calibrate=calibrate,
        seed=seed,
        quiet=quiet or as_json,
    )
    emit(result, as_json, title="evaluation")


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The work folder of a training run.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")] = Path("face.onnx"),
    l2: Annotated[bool, typer.Option("--l2", help="Unit vectors, under the output name `embedding`.")] = False,
    variant: Annotated[
        list[str], typer.Option("--variant", help="Also write fp16, int8-dynamic or int8-static beside it; repeatable.")
    ] = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export the best checkpoint of a run as one ONNX file with its manifest, and check it against torch."""
    from robustvision.face.export import export_run

    emit(export_run(source, out, l2=l2, variants=variant, quiet=quiet or as_json), as_json, title=str(out))


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos.")],
    model: Model = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A photo of one person: say which of the faces are this person.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Cosine above which two faces are one person.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", help="A YuNet ONNX file; by default that of the extra `detector`.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the photos with boxes and landmarks.")] = None,
    as_json: Json = False,
) -> None:
    """Find, embed and compare the faces of photos, from the ONNX file alone."""
    from robustvision.face.predict import predict_photos

    result = predict_photos(photos, model=model, reference=reference, threshold=threshold, detector=detector, out=out)
    if as_json:
        emit(result, True)
    else:
        for photo in result["photos"]:
            emit(_without_embeddings(photo), False, title=photo["photo"])
    if any("error" in photo for photo in result["photos"]):
        raise typer.Exit(2)


def _without_embeddings(photo: dict[str, Any]) -> dict[str, Any]:
    if "error" in photo:
        return {"error": photo["error"]}
    faces: dict[str, Any] = {
        f"face {place}": {name: value for name, value in face.items() if name != "embedding"}
        for place, face in enumerate(photo["faces"])
    }
    return {"size": photo["size"], **(faces or {"faces": "none found"})}


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="The folder to write; an older tree of this command there is replaced.")],
    identities: Annotated[int, typer.Option("--identities", min=2, help="Number of people.")] = 100,
    images: Annotated[int, typer.Option("--images", min=1, help="Images a person.")] = 10,
    flip_rate: Annotated[float, typer.Option("--flip-rate", help="Share of images under a wrong label.")] = 0.0,
    photos: Annotated[bool, typer.Option("--photos", help="Whole photos with landmarks, not aligned crops.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render a data set of faces to disk, one folder a person, with landmarks and the truth about its label noise."""
    from robustvision.core.data import LabelNoise
    from robustvision.face.synthetic import synthesize as write_tree

    emit(
        write_tree(
            out,
            identities=identities,
            images_per_identity=images,
            noise=LabelNoise(flip=flip_rate),
            photos=photos,
            seed=seed,
            quiet=quiet or as_json,
        ),
        as_json,
        title=str(out),
    )


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="A data folder, a list file, or a photo.")],
    landmarks: Landmarks = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a data set or a photo before it costs a training run; exit code 1 if something is."""
    from robustvision.face.checks import check_source

    findings = check_source(source, landmarks=landmarks)
    if as_json:
        emit({"findings": [vars(finding) for finding in findings]}, True)
    else:
        for finding in findings:
            typer.echo(f"{finding.level}: {finding.where}: {finding.what}\n  {finding.advice}")
        typer.echo(f"{source}: {len(findings)} findings")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def repair(
    source: Annotated[Path, typer.Argument(help="An ONNX face recognition file that newer runtimes refuse.")],
    out: Annotated[Path, typer.Option("--out", help="The mended file.")] = Path("repaired.onnx"),
    as_json: Json = False,
) -> None:
    """Mend a published file whose weights are listed as inputs; shows that it computes the same."""
    from robustvision.face.repair import repair_face_model

    emit(repair_face_model(source, out), as_json, title=str(out))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, pictures and report.")] = Path("demo-out"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render faces with 40 % wrong labels, train, evaluate, export, run without torch, and write a report."""
    from robustvision.core.demo import run_demos

    emit(run_demos(["face"], out, seed=seed, quiet=quiet or as_json), as_json, title="face demo")


def main() -> None:
    """Run ``robustvision-face``."""
    run(app)
