from .building_polygon import BuildingPolygon as BuildingPolygon
from .regularise import regularise as regularise
from .vectorise import vectorise as vectorise
from .writing import write_polygons as write_polygons
