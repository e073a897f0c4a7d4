from .contract import Preprocessing as Preprocessing
