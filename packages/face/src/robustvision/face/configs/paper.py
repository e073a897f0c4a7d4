"""The publication's settings on CASIA-WebFace: IR-50, 512 dimensions, batch 256 over all processes, 125 epochs.

Give your own copy of the data: ``train paper --data CASIA --val-data VALIDATION``. The batch size here is that of one
process; the authors had two with 128 each.
"""

from mmengine.optim import MultiStepLR
from torch.optim import SGD

from robustvision.core.losses import CosineHead, SFaceLoss
from robustvision.face.data import files_dataset
from robustvision.face.evaluator import VerificationMetric
from robustvision.face.model import FaceModel
from robustvision.face.networks import IR

embedding_size = 512

model = dict(
    type=FaceModel,
    backbone=dict(type=IR, depth=50, embedding_size=embedding_size),
    head=dict(type=CosineHead, num_classes=10_572, embedding_size=embedding_size),
    loss=dict(type=SFaceLoss, scale=64.0, k=80.0, a=0.87, b=1.2),
)
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(type=files_dataset, path="data/casia-webface", flip=0.5),
)
val_dataloader = dict(batch_size=128, num_workers=4, dataset=dict(type=files_dataset, path="data/validation", flip=0.0))
val_evaluator = dict(type=VerificationMetric, fars=(1e-2, 1e-3))
optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [dict(type=MultiStepLR, milestones=[50, 70, 80], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=125, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best="val/tar@far=0.001", rule="greater"))
