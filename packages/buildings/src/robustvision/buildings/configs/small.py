"""What ships: more scenes of every district, clean tiles of many districts, tiles of 128 pixels."""

from mmengine.config import read_base

with read_base():
    from ._compact import *

train_dataloader.update(dataset=dict(count=1200, size_px=128))
clean_dataset.update(count=160, size_px=128)
val_dataloader.update(dataset=dict(count=64, size_px=128))
adaptation.update(noisy_epochs=8, clean_epochs=10, clean_steps_per_epoch=40)
