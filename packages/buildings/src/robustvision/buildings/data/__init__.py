"""Building data: every reader and the renderer yield `Tile`s, so nothing behind them knows which one it got.

A reader lists `TileSource`s, one a window of a raster, without reading a pixel; splits go by their groups and places.
``BuildingDataset`` cuts samples from tiles. Its sample is a dict, as mmengine's contract asks:

- ``"image"``: uint8 tensor [3, S, S], RGB, raw 0..255 (the model normalises);
- ``"label"``: float32 tensor [1, S, S], 1 where a building is labelled, else 0;
- ``"valid"``: float32 tensor [1, S, S], 0 where the sample counts nowhere: no data, padding, or seen in another sample;
- ``"index"``: int, place in the data set; ``BuildingDataset.windows`` says which tile and corner that is.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
