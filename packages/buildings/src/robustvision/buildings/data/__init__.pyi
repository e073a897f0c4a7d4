from .dataset import Augmentation as Augmentation
from .dataset import BuildingDataset as BuildingDataset
from .tile import Tile as Tile
from .tile import TileSource as TileSource
