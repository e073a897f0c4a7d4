"""The demo's: rendered films of 192 people, crops of 16 pixels, about two minutes on two cores."""

from mmengine.config import read_base

with read_base():
    from ._phys_fsu_net import *
