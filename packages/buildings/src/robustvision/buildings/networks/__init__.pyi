from .compact_unet import CompactUNet as CompactUNet
