"""What the recipes on rendered faces share: SFace over a small network, SGD with one warm-up and a cosine."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

from robustvision.core.losses import CosineHead, SFaceLoss
from robustvision.face.data import synthetic_dataset
from robustvision.face.evaluator import VerificationMetric
from robustvision.face.model import FaceModel
from robustvision.face.networks import TinyFaceNet

embedding_size = 128

model = dict(
    type=FaceModel,
    backbone=dict(type=TinyFaceNet, embedding_size=embedding_size),
    head=dict(type=CosineHead, num_classes=500, embedding_size=embedding_size),
    loss=dict(type=SFaceLoss, scale=64.0, k=80.0, a=0.95, b=1.2),
)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        type=synthetic_dataset,
        num_identities=500,
        images_per_identity=12,
        split="train",
        strength=0.4,
        noise=dict(flip=0.4),
        flip=0.5,
    ),
)
val_dataloader = dict(
    batch_size=128,
    dataset=dict(
        type=synthetic_dataset, num_identities=60, images_per_identity=10, split="validation", strength=0.4, flip=0.0
    ),
)
val_evaluator = dict(type=VerificationMetric, fars=(1e-2, 1e-3))
optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min=1e-4, by_epoch=True, begin=1, end=10, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10, val_interval=2)
default_hooks = dict(checkpoint=dict(save_best="val/tar@far=0.001", rule="greater"))
