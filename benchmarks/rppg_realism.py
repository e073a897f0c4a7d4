"""How real are the rendered films to methods without training? The table behind `robustvision.rppg.synthetic.realism`.

    python benchmarks/rppg_realism.py                     # about five minutes on two cores
    python benchmarks/rppg_realism.py --recordings 120    # narrower errors

Errors are in bpm against the true mean heart rate, which lies between 50 and 130; a blind guess errs by 20 to 30. The
table goes to `benchmarks/out` and, with --publish, to `docs/measured`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from robustvision.core.runtime import write_json
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic.realism import SETTINGS, Row, judge, measure

ROOT = Path(__file__).parent
NAME = "rppg_realism.json"


def main() -> None:
    """Measure all settings, print table and findings, write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=48, help="recordings a setting")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--publish", action="store_true", help="also write docs/measured")
    arguments = parser.parse_args()
    start_s, rows = time.perf_counter(), []
    for name in SETTINGS:
        rows.append(
            measure(
                name,
                n=arguments.recordings,
                seconds=arguments.seconds,
                seed=arguments.seed,
                workers=arguments.workers,
                quiet=True,
            )
        )
        _print(rows[-1], is_first=len(rows) == 1)
    findings = judge(rows, arguments.seconds)
    for finding in findings:
        print(f"{'holds' if finding.holds else 'FAILS':6s} {finding.rule} ({finding.found})")
    content = {
        "recordings": arguments.recordings,
        "seconds": arguments.seconds,
        "seed": arguments.seed,
        "minutes": (time.perf_counter() - start_s) / 60,
        **FINE_GRID.stamp(),
        "rows": [_rounded(row) for row in rows],
        "findings": [vars(finding) for finding in findings],
    }
    for folder in (ROOT / "out", *([ROOT.parent / "docs" / "measured"] if arguments.publish else [])):
        folder.mkdir(exist_ok=True)
        write_json(folder / NAME, content)


def _rounded(row: Row) -> dict[str, Any]:
    series = {name: np.round(getattr(row, name), 2) for name in ("peaks_db", "rates_bpm")}
    return {**vars(row), **series}


def _print(row: Row, *, is_first: bool) -> None:
    if is_first:
        print(f"{'':26s}" + " ".join(f"{method[:5]:>5s}" for method in row.errors_bpm) + "   (last: POS on the crop)")
    errors = " ".join(f"{value:5.1f}" for value in row.errors_bpm.values()) or "no pulse"
    print(f"{row.setting:26s}{errors}", flush=True)


if __name__ == "__main__":
    main()
