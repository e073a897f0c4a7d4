"""What ships in the package: more people, clean labels."""

from mmengine.config import read_base

with read_base():
    from ._sface import *

model.update(head=dict(num_classes=800))
train_dataloader.update(dataset=dict(num_identities=800, images_per_identity=12, noise=dict(flip=0.0)))
val_dataloader.update(dataset=dict(num_identities=100))
param_scheduler[1].update(end=8)
train_cfg.update(max_epochs=8)
