"""Every error that a user of robustvision can meet on purpose.

A message says what came, what was expected, and what to do. The command line turns these into one line and exit code 2;
anything else that escapes is a bug, and shows its traceback.
"""

from __future__ import annotations


class RobustVisionError(Exception):
    """The root of all errors that robustvision raises on purpose."""


class InputError(RobustVisionError, ValueError):
    """A file, array, option or data set that cannot be used as it is."""


class ModelError(RobustVisionError, ValueError):
    """An ONNX file or folder that is broken, of another task, or of another manifest schema."""


class ExportError(RobustVisionError, RuntimeError):
    """A graph that could not be exported, or that does not compute what the torch model computes."""


class TrainingError(RobustVisionError, RuntimeError):
    """A training run that cannot start or cannot go on, such as one with a loss that is not finite."""


class MissingExtraError(RobustVisionError, ImportError):
    """A name that needs libraries of an extra that is not installed."""
