"""The package front without the libraries of the training half."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
sys.modules.update(dict.fromkeys(["torch", "scipy", "matplotlib", "jinja2", "mmengine"]))  # None: cannot be imported
from robustvision.core.errors import MissingExtraError
from robustvision.core.evaluation import (
    bootstrap_interval, kfold_verification, paired_bootstrap, roc_auc, sign_test, tar_at_far, wilson_interval
)
assert roc_auc([1.0], [0.0]) == 1.0 and wilson_interval(1, 2).estimate == 0.5
for name in ("t_interval", "Study"):
    try:
        getattr(__import__("robustvision.core.evaluation", fromlist=["x"]), name)
    except MissingExtraError as error:
        assert "scipy" in str(error) and "robustvision-core[train]" in str(error), error
    else:
        raise AssertionError(f"{name} needs scipy")
"""


def test_scores_and_intervals_need_numpy_alone() -> None:
    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
