"""The encoders of the paper's grid, by family, with their sizes: plain data, no torch.

A name has one of three forms: native (``resnet18``), ``timm-`` (what segmentation-models-pytorch keeps of an older
form), and ``tu-`` (any network of timm). The same network under two forms may differ: ``vgg19`` gives U-Net a
bottleneck block and ``tu-vgg19`` does not, ``timm-tf_efficientnet_lite0`` carries an unused head and
``tu-tf_efficientnet_lite0`` does not; their weights do not fit each other. Every further name of
segmentation-models-pytorch and timm works too; these are the ones that the paper's families name.
"""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Millions of parameters, without weights loaded and with one class.

    Attributes:
        encoder_m: Of the encoder.
        unet_m: Of a U-Net with it.
    """

    encoder_m: float
    unet_m: float


ENCODERS: dict[str, dict[str, Size]] = {
    "ResNet": {"resnet18": Size(11.18, 14.33), "resnet34": Size(21.28, 24.44)},
    "DenseNet": {"densenet121": Size(6.95, 13.61)},
    "VGG": {"vgg19": Size(20.02, 29.06), "vgg19_bn": Size(20.04, 29.07), "tu-vgg19": Size(20.02, 24.34)},
    "MobileNet": {
        "mobilenet_v2": Size(2.22, 6.63),
        "tu-tf_mobilenetv3_large_100": Size(2.97, 6.69),
        "tu-tf_mobilenetv3_large_075": Size(1.79, 4.89),
        "tu-tf_mobilenetv3_large_minimal_100": Size(1.41, 5.13),
        "tu-tf_mobilenetv3_small_100": Size(0.93, 3.59),
        "tu-tf_mobilenetv3_small_075": Size(0.57, 2.88),
        "tu-tf_mobilenetv3_small_minimal_100": Size(0.43, 3.09),
    },
    "MnasNet": {
        "tu-mnasnet_small": Size(0.56, 2.18),
        "tu-mnasnet_100": Size(2.69, 4.89),
        "tu-semnasnet_075": Size(1.32, 3.31),
        "tu-semnasnet_100": Size(2.19, 4.43),
    },
    "EfficientNet": {
        "efficientnet-b0": Size(4.01, 6.25),
        "timm-efficientnet-b0": Size(4.01, 6.25),
        "timm-tf_efficientnet_lite0": Size(3.37, 5.61),
        "timm-tf_efficientnet_lite1": Size(4.14, 6.38),
        "timm-tf_efficientnet_lite2": Size(4.81, 7.16),
        "timm-tf_efficientnet_lite3": Size(6.92, 9.38),
        "timm-tf_efficientnet_lite4": Size(11.73, 14.40),
        "tu-tf_efficientnet_lite0": Size(2.96, 5.20),
    },
    "EfficientNetV2": {
        "tu-tf_efficientnetv2_b0": Size(5.61, 7.57),
        "tu-tf_efficientnetv2_b1": Size(6.61, 8.57),
        "tu-tf_efficientnetv2_b2": Size(8.39, 10.41),
        "tu-tf_efficientnetv2_b3": Size(12.46, 14.58),
        "tu-tf_efficientnetv2_s": Size(19.85, 22.09),
        "tu-efficientnetv2_rw_t": Size(12.41, 14.45),
    },
    "SK-ResNet": {
        "timm-skresnet18": Size(11.44, 14.59),
        "tu-skresnet18": Size(11.45, 14.60),
        "timm-skresnet34": Size(21.76, 24.92),
    },
    "DPN": {"dpn68": Size(11.78, 16.95)},
    "ResNeSt": {"tu-resnest14d": Size(8.56, 17.58), "tu-resnest26d": Size(15.02, 24.03)},
    "GERNet": {
        "tu-gernet_s": Size(6.25, 12.83),
        "tu-gernet_m": Size(18.58, 27.44),
        "tu-gernet_l": Size(28.52, 37.37),
    },
    "MobileOne": {
        "mobileone_s0": Size(4.27, 8.59),
        "mobileone_s1": Size(3.54, 9.15),
        "mobileone_s2": Size(5.84, 13.58),
        "mobileone_s3": Size(8.12, 16.25),
        "mobileone_s4": Size(12.90, 21.51),
    },
    "HRNet": {
        "tu-hrnet_w18": Size(10.95, 16.05),
        "tu-hrnet_w18_small": Size(2.84, 7.94),
        "tu-hrnet_w18_small_v2": Size(5.25, 10.35),
    },
    "MobileViT": {
        "tu-mobilevit_xxs": Size(0.95, 3.09),
        "tu-mobilevit_xs": Size(1.93, 4.29),
        "tu-mobilevit_s": Size(4.94, 8.04),
        "tu-mobilevitv2_050": Size(1.11, 3.52),
        "tu-mobilevitv2_100": Size(4.39, 8.02),
    },
    "FBNet": {
        "tu-fbnetc_100": Size(2.88, 5.19),
        "tu-fbnetv3_b": Size(3.95, 8.56),
        "tu-fbnetv3_d": Size(5.46, 10.32),
        "tu-fbnetv3_g": Size(11.21, 16.83),
    },
    "HardCoReNAS": {
        "tu-hardcorenas_a": Size(2.75, 6.46),
        "tu-hardcorenas_b": Size(2.67, 6.38),
        "tu-hardcorenas_c": Size(3.01, 6.72),
        "tu-hardcorenas_d": Size(4.99, 8.70),
        "tu-hardcorenas_e": Size(5.56, 9.27),
        "tu-hardcorenas_f": Size(5.69, 9.40),
    },
    "MixNet": {
        "tu-mixnet_s": Size(2.29, 4.27),
        "tu-mixnet_m": Size(3.17, 5.16),
        "tu-mixnet_l": Size(5.38, 7.64),
    },
    "TinyNet": {
        "tu-tinynet_a": Size(4.49, 6.73),
        "tu-tinynet_b": Size(2.14, 4.13),
        "tu-tinynet_c": Size(0.95, 2.72),
        "tu-tinynet_d": Size(0.83, 2.60),
        "tu-tinynet_e": Size(0.55, 2.27),
    },
    "Mix Transformer": {"mit_b0": Size(3.32, 5.55), "mit_b2": Size(24.20, 27.48)},
}
"""Family to encoder name to size. All are built and counted by a test."""

RENAMED: dict[str, str] = {
    **{f"timm-efficientnet-lite{n}": f"timm-tf_efficientnet_lite{n}" for n in range(5)},
    **{f"efficientnet-lite{n}": f"timm-tf_efficientnet_lite{n}" for n in range(5)},
    "resnest18": "tu-resnest14d",
    "timm-resnest18": "tu-resnest14d",
    "tu-resnest18": "tu-resnest14d",
}
"""Names that papers and older releases use, and what they are called now. A ResNeSt-18 was never released; 14d is the
lightest."""
