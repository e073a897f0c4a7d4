from .build import synthetic_dataset as synthetic_dataset
from .dataset import FaceDataset as FaceDataset
from .source import FaceArrays as FaceArrays
from .source import FaceSource as FaceSource
