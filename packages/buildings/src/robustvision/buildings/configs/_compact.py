"""What the recipes on rendered scenes share: a narrow U-Net, misaligned labels of many districts, few clean tiles.

``train_dataloader`` holds the large noisy set, ``clean_dataset`` the small clean one, ``val_dataloader`` clean tiles;
``adaptation`` says how one becomes the other.
"""

from torch.optim import Adam

from robustvision.buildings.data import synthetic_dataset
from robustvision.buildings.evaluator import BuildingMetric
from robustvision.buildings.losses import BCEDiceLoss
from robustvision.buildings.model import BuildingModel
from robustvision.buildings.networks import CompactUNet

epochs = 6
learning_rate = 3e-3
tile_px = 256  # of rasters; the network takes any multiple of 8
target = "roof"

model = dict(type=BuildingModel, network=dict(type=CompactUNet, widths=(8, 16, 32, 48)), loss=dict(type=BCEDiceLoss))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(type=synthetic_dataset, count=480, label="noisy", split="train", size_px=96, augmentation=dict()),
)
clean_dataset = dict(
    type=synthetic_dataset, count=32, label="roof", split="train", seed=1, size_px=96, augmentation=dict()
)
val_dataloader = dict(
    batch_size=8, dataset=dict(type=synthetic_dataset, count=32, label="roof", split="validation", size_px=96)
)
val_evaluator = dict(type=BuildingMetric)
optim_wrapper = dict(optimizer=dict(type=Adam, lr=learning_rate))
train_cfg = dict(max_epochs=epochs, val_interval=1)  # the adaptation sets epochs and the schedule of the rate
default_hooks = dict(checkpoint=dict(save_best="val/iou", rule="greater"))
method = "sda"
adaptation = dict(noisy_epochs=epochs, clean_epochs=4, clean_steps_per_epoch=30, rate_ratio=0.3)
