from .input_normalisation import InputNormalisation as InputNormalisation
from .ir import IR as IR
from .iresnet import IResNet as IResNet
from .mobilefacenet import MBF as MBF
from .mobilefacenet import MobileFaceNet as MobileFaceNet
from .mobilenet_v1 import MobileNetV1Embedding as MobileNetV1Embedding
from .tiny_facenet import TinyFaceNet as TinyFaceNet
