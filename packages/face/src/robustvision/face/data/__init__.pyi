from .build import file_dataset as file_dataset
from .build import read_faces as read_faces
from .build import synthetic_dataset as synthetic_dataset
from .dataset import FaceDataset as FaceDataset
from .source import FaceArrays as FaceArrays
from .source import FaceSource as FaceSource
