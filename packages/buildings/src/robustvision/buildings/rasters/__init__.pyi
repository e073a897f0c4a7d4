from .reading import Raster as Raster
from .reading import RasterDescription as RasterDescription
from .reading import open_raster as open_raster
