"""What ships: more people, every scenario and skin type, crops of 24 pixels."""

from mmengine.config import read_base

with read_base():
    from ._phys_fsu_net import *

everything = dict(
    scenarios=("still", "talk", "light", "rotate", "walk", "dark", "tint", "codec"),
    skin_types=(1, 2, 3, 4, 5, 6),
    size_px=24,
)
train_dataloader.update(dataset=dict(num_recordings=480, hr_range_bpm=(45.0, 150.0), **everything))
val_dataloader.update(dataset=dict(num_recordings=96, hr_range_bpm=(45.0, 150.0), **everything))
optim_wrapper.update(optimizer=dict(lr=3e-3))
param_scheduler[1].update(end=16)
train_cfg.update(max_epochs=16, val_interval=4)
