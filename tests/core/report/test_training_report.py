"""The report of a training run, from whole, broken and missing files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustvision.core.errors import InputError
from robustvision.core.report import report_training

RUN = {
    "status": "finished",
    "started": "2026-03-04T05:06:07+00:00",
    "recipe": {"name": "tiny", "package": "robustvision.face", "options": {}},
    "config": {"optimizer": {"lr": 0.1}},
    "seed": 3,
    "device": "cpu",
    "commit": None,
    "versions": {"torch": "9.9"},
    "python": "3.11.7",
    "data": {"train": {"samples": 12345, "fingerprint": "f"}},
    "error": None,
}


def write_log(path: Path, lines: list[dict], torn: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines: list[dict] = []
    for step in range(1, 7):
        lines.append(
            {
                "kind": "train",
                "epoch": (step + 2) // 3,
                "step": step,
                "lr": 0.1,
                "loss": 1 / step,
                "loss_a": 1.0,
                "seconds": 30.0,
            }
        )
        if step % 3 == 0:
            lines.append({"kind": "val", "epoch": step // 3, "step": step, "auc": 0.5 + step / 20, "seconds": 10.0})
    lines[2]["loss"] = None
    return write_log(tmp_path / "log.jsonl", lines)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN))
    return path


def test_tiles_facts_and_curves(log: Path, run: Path, read_page) -> None:
    page = read_page(report_training(log, run, title="Tiny").html())
    texts = page.texts
    for name, value in (("Steps", "6"), ("Epochs", "2"), ("Time", "3.33 min"), ("Loss", "0.1667"), ("Seed", "3")):
        assert texts[texts.index(name) + 1] == value
    assert texts[texts.index("Validation auc") + 1] == "0.8"
    assert texts[texts.index("Samples (train)") + 1] == "12,345"
    for text in ("Tiny", "Recipe tiny, finished", "2026-03-04 05:06 UTC", "torch 9.9", "python 3.11.7"):
        assert text in texts
    for heading in ("Losses", "auc (validation)", "lr", "Time between lines", "Configuration"):
        assert heading in texts
    assert "Commit" not in texts
    assert "Why it stopped" not in texts
    # two losses (the null makes a gap in one), then auc, lr and seconds
    assert [path.count("M") for path in page.lines()] == [2, 1, 1, 1, 1]


def test_the_record_may_be_missing(log: Path, read_page) -> None:
    page = read_page(report_training(log).html())
    assert "Losses" in page.texts
    assert "Configuration" not in page.texts


def test_sections_can_be_added(log: Path) -> None:
    report = report_training(log)
    count = len(report.sections)
    assert len(report.text("more").sections) == count + 1


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path, read_page) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(
        b'{"step": 1, "loss": 2.0}\n\n[1]\n{"step": 2, "loss": NaN}\n\xff\xfe\n{"step": 3, "loss": 1.0}\n{"ste'
    )
    page = read_page(report_training(log).html())
    assert "3 lines of the log could not be read, and are left out." in page.texts
    assert page.texts[page.texts.index("Steps") + 1] == "3"
    assert page.texts[page.texts.index("Loss") + 1] == "1"


def test_fields_of_any_kind_do_no_harm(tmp_path: Path, read_page) -> None:
    lines = [
        {"loss": 1.0, "mode": "warm", "flag": True, "nested": {"a": 1}, "gone": None},
        {"loss": 0.5, "late": 3},
        {"kind": "val", "loss": 0.7, "confusion": [[1, 2]]},
    ]
    page = read_page(report_training(write_log(tmp_path / "log.jsonl", lines)).html())
    assert "loss (validation)" in page.texts  # in the key of the losses
    assert "late" in page.texts
    assert not {"mode", "flag", "nested", "gone", "confusion (validation)"} & set(page.texts)


def test_an_empty_log_is_a_page_too(tmp_path: Path, read_page) -> None:
    page = read_page(report_training(write_log(tmp_path / "log.jsonl", [])).html())
    assert "The log holds no steps." in page.texts


def test_why_a_run_stopped_is_shown(log: Path, run: Path, read_page) -> None:
    run.write_text(json.dumps({**RUN, "status": "failed", "error": "the loss is not finite at step 7 <b>"}))
    page = read_page(report_training(log, run).html())
    assert "Recipe tiny, failed" in page.texts
    assert "the loss is not finite at step 7 <b>" in page.texts


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_a_record_that_is_none_is_refused(content: str, log: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json"):
        report_training(log, tmp_path / "run.json")


def test_missing_files_are_named(log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the log .*nowhere\.jsonl"):
        report_training(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match=r"cannot read the record .*nowhere\.json"):
        report_training(log, tmp_path / "nowhere.json")
