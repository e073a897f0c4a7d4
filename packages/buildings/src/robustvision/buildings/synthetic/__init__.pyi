from .label_noise import NoisyLabel as NoisyLabel
from .label_noise import noisy_label as noisy_label
from .scene import Building as Building
from .scene import Scene as Scene
from .source import GENERATOR_VERSION as GENERATOR_VERSION
from .source import SyntheticScenes as SyntheticScenes
from .source import tiles as tiles
