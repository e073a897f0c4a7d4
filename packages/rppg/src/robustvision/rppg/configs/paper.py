"""The field's settings for a public data set, given by ``--data`` and ``--kind``; slow on a CPU.

Width 64 (0.8 M parameters), the whole clip in view, AdamW without weight decay, peak learning rate 9e-3, batches of 4,
30 epochs. physFSUNet's own recipe is not known. RhythmFormer's, which this follows, takes crops of 128 pixels and one
cycle of the learning rate; here the crops have 72, and a warm-up and a cosine take the cycle's place.
"""

from mmengine.config import read_base

with read_base():
    from ._phys_fsu_net import *

model.update(network=dict(width=64, causal=False), loss=dict(schedule="physformer", frequency_weight=1.0))
train_dataloader.update(batch_size=4, dataset=dict(num_recordings=240, size_px=72))
val_dataloader.update(batch_size=4, dataset=dict(size_px=72))
optim_wrapper.update(optimizer=dict(lr=9e-3))
param_scheduler[1].update(end=30)
train_cfg.update(max_epochs=30)
