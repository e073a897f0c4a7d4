"""From a torch module to a model file that can be trusted: export, manifest, parity check, variants, repair.

``export_model`` writes one ``.onnx`` file, or a folder of graphs with one ``manifest.json``, and accepts it only when
onnxruntime computes what torch computes. ``to_fp16``, ``quantise_dynamic`` and ``quantise_static`` write smaller
variants with the measured change of the metric; ``repair_inputs`` mends published files that list their weights as
graph inputs. Reading and running models is not here: that is ``robustvision.core.runtime``, which needs no torch.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
