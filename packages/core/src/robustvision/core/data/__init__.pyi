from .label_noise import OUTSIDE as OUTSIDE
from .label_noise import LabelNoise as LabelNoise
from .label_noise import NoisyLabels as NoisyLabels
from .label_noise import conflict as conflict
from .label_noise import flip_labels as flip_labels
from .label_noise import merge as merge
from .label_noise import open_set as open_set
