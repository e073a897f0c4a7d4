"""The command line of heart rate from video: ``robustvision-rppg``, or ``robustvision rppg``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustvision.core.cli import CfgOptions, Device, Json, Quiet, Resume, Seed, WorkDir, emit, new_app, run

app = new_app("Heart rate from face video, with a named protocol and a reading that can be refused.")

Data = Annotated[
    Path | None, typer.Option("--data", help="The root of a data set, with --kind; rendered films where not given.")
]
Kind = Annotated[str | None, typer.Option("--kind", help="The layout of --data: pure, ubfc, mmpd or scamps.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="An exported model, or a classical method (green, chrom, pos, ica, lgi, pbv, omit); the shipped synthetic "
        "model where not given.",
    ),
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="tiny, small, paper, or a file of your own.")] = "tiny",
    data: Data = None,
    kind: Kind = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="How subjects are split: cross_source, mmpd_intra, pure_validated, ..."),
    ] = None,
    work_dir: WorkDir = Path("runs/rppg"),
    seed: Seed = 0,
    device: Device = "auto",
    cfg_options: CfgOptions = [],  # noqa: B006 (typer reads the default, nobody changes it)
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe, on rendered films or on a data set; writes checkpoints, log, run.json and report.html."""
    from robustvision.rppg.training import train_pulse

    result = train_pulse(
        recipe,
        data=data,
        kind=kind,
        split=split,
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
    protocol: Annotated[
        str, typer.Option("--protocol", help="How heart rates are read: paper2023 or toolbox_current.")
    ] = "paper2023",
    protocol_sensitivity: Annotated[
        bool, typer.Option("--protocol-sensitivity", help="Measure the same predictions under all protocols.")
    ] = False,
    videos: Annotated[
        Path | None, typer.Option("--videos", help="A folder of your own recordings, with --reference.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="CSV: video, timestamp_s, and bpm or ppg, for --videos.")
    ] = None,
    work_dir: WorkDir = Path("runs/rppg-evaluation"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model beside POS and CHROM under a named protocol, on a data set, rendered films, or recordings."""
    from robustvision.rppg.evaluate import evaluate_data, evaluate_videos, markdown_rows

    quiet = quiet or as_json
    if videos is not None or reference is not None:
        emit(evaluate_videos(videos, reference, model=model, work_dir=work_dir, quiet=quiet), as_json, title="videos")
        return
    result = evaluate_data(
        model,
        data=data,
        kind=kind,
        protocol=protocol,
        sensitivity=protocol_sensitivity,
        work_dir=work_dir,
        seed=seed,
        quiet=quiet,
    )
    if as_json:
        emit(result, True)
        return
    for finding in result["label findings"]:
        typer.echo(f"warning: {finding['recording']}: {finding['what']}\n  {finding['advice']}", err=True)
    for title in ("table", "by scenario", "sensitivity"):
        if title in result:
            typer.echo(f"{title}\n{markdown_rows(result[title])}\n")
    emit({name: result[name] for name in ("data", "model", "sha256", "report") if name in result}, False)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The work folder of a training run.")],
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.")] = Path("pulse"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export the best checkpoint of a run, calibrate its confidence on validation clips, and check it against torch."""
    from robustvision.rppg.export import export_run

    emit(export_run(source, out, quiet=quiet or as_json), as_json, title=str(out))


@app.command()
def predict(
    source: Annotated[str, typer.Argument(help="A video file, a folder of pictures with --fps, or a camera's number.")],
    model: Model = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames a second of a folder of pictures.")] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", help="A YuNet ONNX file; by default that of the extra `detector`.")
    ] = None,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two readings.")] = 1.0,
    seconds: Annotated[float | None, typer.Option("--seconds", min=1.0, help="Stop after so many seconds.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the readings.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read the heart rate of a film or a webcam, second by second, without torch; refuses what it cannot know."""
    from robustvision.rppg.predict import predict_source

    result = predict_source(
        source,
        model=model,
        fps=fps,
        detector=detector,
        every_s=every,
        seconds=seconds,
        out=out,
        show=not (as_json or quiet),
    )
    if not as_json:
        result.pop("readings")  # shown one by one already
    emit(result, as_json, title=str(source))


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="The folder to write; an older tree of this command there is replaced.")],
    layout: Annotated[str, typer.Option("--layout", help="pure, ubfc, mmpd, or film: MP4, reference.csv.")] = "ubfc",
    recordings: Annotated[int, typer.Option("--recordings", min=1, help="How many films.")] = 4,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="Length of a film.")] = 10.0,
    scenario: Annotated[
        list[str], typer.Option("--scenario", help="still, talk, rotate, walk, light, ...; repeatable.")
    ] = ["still"],  # noqa: B006
    size_px: Annotated[int, typer.Option("--size", min=16, help="Side of the frames in pixels.")] = 192,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render films of beating faces in the layout of a public data set, with the truth about every beat."""
    from robustvision.rppg.synthetic import SyntheticPulse
    from robustvision.rppg.synthetic import synthesize as write_tree

    films = SyntheticPulse(
        recordings, scenarios=tuple(scenario), split="test", seed=seed, seconds=seconds, size_px=size_px
    )
    emit(write_tree(out, films, layout=layout, quiet=quiet or as_json), as_json, title=str(out))


@app.command()
def check(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    detector: Annotated[
        Path | None, typer.Option("--detector", help="A YuNet ONNX file; by default that of the extra `detector`.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say why a reading of this film would be unreliable, and what to change; exit code 1 if it is useless."""
    from robustvision.rppg.checks import check_video

    findings = check_video(video, detector=detector, quiet=quiet or as_json)
    if as_json:
        emit({"findings": [vars(finding) for finding in findings]}, True)
    else:
        for finding in findings:
            typer.echo(f"{finding.level}: {finding.where}: {finding.what}\n  {finding.advice}")
        typer.echo(f"{video}: {len(findings)} findings")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, pictures and report.")] = Path("demo-out"),
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render films, train, evaluate beside POS and CHROM, export, stream one film without torch, write a report."""
    from robustvision.core.demo import run_demos

    emit(run_demos(["rppg"], out, seed=seed, quiet=quiet or as_json), as_json, title="rppg demo")


def main() -> None:
    """Run ``robustvision-rppg``."""
    run(app)
