"""What the recipes on rendered films share: a narrow physFSUNet on small crops, and the dynamic hybrid loss."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from robustvision.rppg.data import synthetic_dataset
from robustvision.rppg.evaluator import PulseMetric
from robustvision.rppg.losses import DynamicHybridLoss
from robustvision.rppg.model import PulseModel
from robustvision.rppg.networks import PhysFSUNet

epochs = 14
learning_rate = 1e-2

model = dict(
    type=PulseModel,
    network=dict(type=PhysFSUNet, width=16, mode="dff", causal=True),
    loss=dict(type=DynamicHybridLoss, schedule="cosine", frequency_weight=0.1, fs=30.0),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type=synthetic_dataset,
        num_recordings=192,
        split="train",
        scenarios=("still", "talk", "light"),
        skin_types=(1, 2, 3, 4),
        size_px=16,
        frames_per_sample=160,
        augmentation=dict(),
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type=synthetic_dataset,
        num_recordings=36,
        split="validation",
        scenarios=("still", "talk", "light"),
        skin_types=(1, 2, 3, 4),
        size_px=16,
        frames_per_sample=300,
    ),
)
val_evaluator = dict(type=PulseMetric)
optim_wrapper = dict(optimizer=dict(type=AdamW, lr=learning_rate, weight_decay=0.0), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min=1e-5, by_epoch=True, begin=2, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=3)
default_hooks = dict(checkpoint=dict(save_best="val/mae", rule="less"))
channels_last = False  # a layout of pictures; the network lays out its films itself
