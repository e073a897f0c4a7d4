from .pixel import PixelCounts as PixelCounts
from .pixel import PixelScores as PixelScores
from .pixel import count_pixels as count_pixels
from .pixel import image_mean_scores as image_mean_scores
from .pixel import micro_scores as micro_scores
