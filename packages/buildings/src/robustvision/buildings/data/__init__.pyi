from .tile import Tile as Tile
from .tile import TileSource as TileSource
