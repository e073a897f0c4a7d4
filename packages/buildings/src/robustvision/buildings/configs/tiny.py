"""The demo's: small tiles, about two minutes on two cores."""

from mmengine.config import read_base

with read_base():
    from ._compact import *
