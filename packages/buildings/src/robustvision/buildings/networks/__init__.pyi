from .build import DECODERS as DECODERS
from .build import build_network as build_network
from .compact_unet import CompactUNet as CompactUNet
from .encoders import ENCODERS as ENCODERS
from .encoders import RENAMED as RENAMED
from .encoders import Size as Size
from .freeze_levels import freeze_levels as freeze_levels
from .unet3plus import UNet3Plus as UNet3Plus
