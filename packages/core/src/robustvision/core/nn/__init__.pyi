from .batchformer import BatchFormer as BatchFormer
from .class_ecdf import ClassECDF as ClassECDF
from .sdm import SDMLayer as SDMLayer
from .sdm import SDMOutput as SDMOutput
from .sdm import similarity as similarity
