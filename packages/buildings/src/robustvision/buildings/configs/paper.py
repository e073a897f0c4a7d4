"""The published settings, for the user's own images; slow on a CPU.

Adam, Dice loss, learning rate 1e-4 and 1e-5 for fine-tuning, batches of 16, tiles of 256 pixels, 50 epochs, U-Net with
an EfficientNet-lite0 encoder (one of the best students). The published encoder starts from ImageNet; here it starts
from nothing unless ``model.network.weights`` names a file, since nothing is downloaded. Which layers the publication
freezes in fine-tuning is not known: none are frozen here.
"""

from mmengine.config import read_base

from robustvision.buildings.losses import DiceLoss
from robustvision.buildings.networks import build_network

with read_base():
    from ._compact import *

model = dict(
    type=BuildingModel,
    network=dict(type=build_network, decoder="unet", encoder="tu-tf_efficientnet_lite0"),
    loss=dict(type=DiceLoss),
)
train_dataloader.update(batch_size=16, dataset=dict(size_px=256))
clean_dataset.update(size_px=256)
val_dataloader.update(batch_size=16, dataset=dict(size_px=256))
optim_wrapper.update(optimizer=dict(lr=1e-4))
adaptation = dict(noisy_epochs=50, clean_epochs=50, rate_ratio=0.1, schedule="constant")
