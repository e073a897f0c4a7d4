from .dataset import Augmentation as Augmentation
from .dataset import PulseDataset as PulseDataset
from .prepare import prepare_clips as prepare_clips
from .recording import Clip as Clip
from .recording import Recording as Recording
