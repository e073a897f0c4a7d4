"""Training: mmengine's Runner and Config, made to work on a CPU, in many processes and after a crash.

A recipe (a pure-Python config) is read by ``load_recipe`` and trained by ``train``. A work folder then holds:

- ``iter_N.pth``: the last checkpoints; training goes on from the newest, to the last bit as if never interrupted;
- ``best.pth``: the weights of the best validation, where the recipe names the metric;
- ``log.jsonl``: every step and validation; ``run.json``: what the run was made of; ``config.py``: the complete recipe.

What a recipe needs: ``model`` (an mmengine ``BaseModel``: ``mode="loss"`` returns tensors, of which those with "loss"
in their name are summed; ``mode="predict"`` returns what the metrics take), ``train_dataloader`` (``dataset``,
``batch_size``), ``optim_wrapper`` and ``train_cfg`` (``max_epochs``); with ``val_dataloader`` and ``val_evaluator``
there is validation. The rest comes from :mod:`.defaults`. Data sets are indexed by ``(epoch, index)`` and draw from
``sample_rng``. ``adapt`` trains by stages from noisy to clean labels.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
