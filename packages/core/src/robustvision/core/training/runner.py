"""mmengine's Runner, made to work on a CPU, in many processes, and after a crash."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmengine.runner
import torch
import torch.multiprocessing
from mmengine import Config
from mmengine.dist import master_only
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import convert_sync_batchnorm, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS, DefaultScope
from torch import nn
from torch.utils.data import DataLoader

import robustvision.core
from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training.checkpoints import fit_state, not_finite, read_checkpoint, write_checkpoint
from robustvision.core.training.hooks.checkpoint import CheckpointHook
from robustvision.core.training.tree import as_text


class Runner(mmengine.runner.Runner):
    """mmengine's Runner with these changes.

    The device is chosen by ``env_cfg["device"]``. The group of processes is formed before (:mod:`.processes`), and
    models are wrapped for gloo too. Checkpoints hold plain values, are written completely or not at all, never with a
    weight that is not finite, and are read without running code; what does not fit is refused. mmengine's console
    output, its folder a run and its visualiser are off.

    Use :func:`robustvision.core.training.train`, or :func:`robustvision.core.training.build_runner` for a runner of
    your own; ``close`` it after use.
    """

    device: torch.device
    recipe: Config
    """The complete recipe, without what belongs to this run alone; :func:`.build_runner` sets it."""
    _infinite_buffers: frozenset[str] | set[str] = frozenset()

    @property
    def recipe_name(self) -> str:
        """The recipe's name, for messages."""
        return str((self.recipe.get("recipe") or {}).get("name") or self.model_name)

    @property
    def is_resuming(self) -> bool:
        """Whether this run goes on with an earlier one."""
        return bool(self._resume)

    @property
    def accumulative_counts(self) -> int:
        """Steps to a whole update of the weights."""
        wrapper = self.optim_wrapper
        wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        return math.lcm(*(one._accumulative_counts for one in wrappers))

    def close(self) -> None:
        """End the workers, close the hooks' files, give the terminal back, and drop what mmengine keeps in globals.

        A loader's workers must end here: when the garbage collector finds loader and runner in a ring, it takes the
        queues first, and then waits five seconds for every worker.
        """
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            workers = getattr(getattr(loop, "dataloader", None), "_iterator", None)
            if callable(end := getattr(workers, "_shutdown_workers", None)):
                end()
        for hook in self.hooks:
            if callable(close := getattr(hook, "close", None)):
                close()
        for kind in (MMLogger, MessageHub, DefaultScope):
            kind._instance_dict.pop(self.experiment_name, None)

    # --- environment and output -------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set the device, and leave the start method of worker processes as it is."""
        self.device = torch.device(env_cfg["device"])
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        method = torch.multiprocessing.get_start_method(allow_none=True)
        method = method or ("fork" if sys.platform == "linux" else torch.multiprocessing.get_start_method())
        super().setup_env({"mp_cfg": {"mp_start_method": method}, **env_cfg})
        self._timestamp = ""  # so that the log folder, work_dir/timestamp, is the work folder itself

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """mmengine would start compilers here; ``run.json`` has what is worth knowing."""

    def build_logger(self, log_level: int | str = "ERROR", log_file: str | None = None, **options: Any) -> MMLogger:
        """mmengine's logger, for errors alone, on stderr; stdout belongs to the caller."""
        logger = MMLogger.get_instance(name=self.experiment_name, log_level="ERROR")
        for handler in logger.handlers:
            handler.setStream(sys.stderr)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Stand in for mmengine's visualiser, which would bring in matplotlib."""
        return SimpleNamespace(dataset_meta=None, add_config=lambda config: None)

    def dump_config(self) -> None:
        """mmengine would write the config here; the record of the run does."""

    # --- model and data ---------------------------------------------------------------------------------------------

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move the model to the device, and wrap it if there are several processes."""
        layout = torch.channels_last if self.cfg.get("channels_last", True) else torch.preserve_format
        model = model.to(self.device).to(memory_format=layout)
        if not self.distributed:
            return revert_sync_batchnorm(model)
        on_cuda = self.device.type == "cuda"
        if on_cuda and self.cfg.get("sync_bn"):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        options: dict[str, Any] = {
            "type": "MMDistributedDataParallel",
            "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            "device_ids": [self.device.index] if on_cuda else None,
            **(model_wrapper_cfg or {}),
        }
        return MODEL_WRAPPERS.build(options, default_args={"module": model})

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """mmengine's, with workers that live as long as the loader, and pinned memory where CUDA is."""
        if isinstance(dataloader, Mapping):
            dataloader = dict(dataloader)
            dataloader.setdefault("persistent_workers", dataloader.get("num_workers", 0) > 0)
            dataloader.setdefault("pin_memory", torch.cuda.is_available())
        return mmengine.runner.Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_evaluator(self, evaluator: Any) -> Any:
        """mmengine's, whose processes exchange results in the work folder instead of the current one."""
        built = super().build_evaluator(evaluator)
        for metric in built.metrics:
            if metric.collect_device == "cpu" and metric.collect_dir is None:
                metric.collect_dir = str(Path(self.work_dir) / ".collected")
        return built

    # --- checkpoints ------------------------------------------------------------------------------------------------

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        *engine_arguments: Any,
        save_optimizer: bool = True,
        meta: Mapping[str, Any] | None = None,
        **engine_options: Any,
    ) -> None:
        """Write a checkpoint.

        Args:
            out_dir: The folder.
            filename: The file's name in it.
            *engine_arguments: mmengine's, not used.
            save_optimizer: Whether training can go on from it, or only the weights are wanted.
            meta: ``epoch`` and ``iter`` as they will be when training goes on, and what else to keep.
            **engine_options: mmengine's, not used.

        Raises:
            TrainingError: A weight is not finite, or something is not plain; no file is written.
        """
        checkpoint: dict[str, Any] = {
            "meta": {
                "seed": self.seed,
                "cfg": as_text(self.recipe),
                "robustvision": robustvision.core.__version__,
                "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
                **self._geometry(),
                **(meta or {}),
            },
            "state_dict": self._bare_model.state_dict(),
            "message_hub": self._hub_state(),
        }
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
            checkpoint["param_schedulers"] = _states(self.param_schedulers)
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        self._refuse_broken(checkpoint, filename)
        write_checkpoint(Path(out_dir) / filename, checkpoint)

    def _hub_state(self) -> dict[str, Any]:
        """The message hub without its histories, which are in the log, and the config, which is in ``meta``."""
        state = self.message_hub.state_dict()
        info = {name: value for name, value in state["runtime_info"].items() if name not in ("cfg", "experiment_name")}
        return {"log_scalars": {}, "runtime_info": info, "resumed_keys": dict.fromkeys(info, True)}

    def _refuse_broken(self, checkpoint: Mapping[str, Any], filename: str) -> None:
        """With EMA, ``state_dict`` holds the averaged weights by now, and the raw ones are beside it: both count."""
        exempt = self._infinite_buffers
        for part in ("state_dict", "ema_state_dict"):
            names = {name.removeprefix("module.") for name in not_finite(checkpoint.get(part, {}))} - exempt
            if names:
                listed = ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
                raise TrainingError(
                    f"after step {checkpoint['meta']['iter']} weights are not finite ({part}: {listed}): {filename} "
                    "was not written, and the checkpoints before it are good. Lower the learning rate, or clip the "
                    "gradients"
                )

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable[..., Any] = "cpu",
        strict: bool = True,
        revise_keys: Any = (),
    ) -> dict[str, Any]:
        """Read a checkpoint into the model, all of it or nothing.

        Args:
            filename: A local file.
            map_location: mmengine's, not used: tensors are read on the CPU, and copied into place.
            strict: mmengine's, not used: every name and shape must fit.
            revise_keys: mmengine's, not used.

        Returns:
            The checkpoint.

        Raises:
            InputError: It cannot be read, does not fit the model, or comes from a run with other steps.
        """
        checkpoint = read_checkpoint(filename)
        if "state_dict" not in checkpoint:
            raise InputError(f"{filename} has no state_dict: expected a checkpoint of a run")
        fit_state(self._bare_model, checkpoint["state_dict"], filename)
        if self.is_resuming:
            self._check_resumable(checkpoint, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self._bare_model.load_state_dict(checkpoint["state_dict"])
        return checkpoint

    def _check_resumable(self, checkpoint: Mapping[str, Any], filename: str) -> None:
        meta = checkpoint.get("meta", {})
        if "optimizer" not in checkpoint or "iter" not in meta:
            raise InputError(f"{filename} holds weights alone: training can go on only from an iter_N.pth file")
        for name, now in {"seed": self.seed, **self._geometry()}.items():
            if meta.get(name) != now:
                raise InputError(
                    f"{filename} comes from a run with {name} {meta.get(name)}, and this one has {now}: steps would no "
                    "longer see the same data. Go on with the same settings, or start anew in another folder"
                )

    def _geometry(self) -> dict[str, int]:
        """What decides which samples a step sees."""
        loader = self.train_dataloader
        return {
            "steps_per_epoch": len(loader),
            "samples_per_step": loader.batch_size * self.world_size,
            "accumulative_counts": self.accumulative_counts,
        }

    @property
    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def train(self) -> nn.Module:
        """Train; see mmengine.

        Returns:
            The model.
        """
        # some models keep masks of -inf as buffers: what was infinite before the first step may stay so
        self._infinite_buffers = not_finite(dict(self._bare_model.named_buffers()))
        with warnings.catch_warnings():
            # a false alarm wherever gradients are accumulated
            warnings.filterwarnings("ignore", message="Detected call of `scheduler.step", category=UserWarning)
            return super().train()

    @property
    def has_average(self) -> bool:
        """Whether averaged weights (EMA) are kept."""
        return any(isinstance(hook, EMAHook) for hook in self.hooks)

    @property
    def checkpoint_hook(self) -> CheckpointHook:
        """The hook that writes the checkpoints.

        Raises:
            InputError: The recipe has switched it off, or put another in place.
        """
        with contextlib.suppress(StopIteration):
            return next(hook for hook in self.hooks if isinstance(hook, CheckpointHook))
        raise InputError(
            "default_hooks.checkpoint is no robustvision.core.training.hooks.CheckpointHook: training needs that one "
            "to be resumable. Leave `type` out, and set interval, max_keep_ckpts, save_best and rule"
        )


def _states(schedulers: Any) -> Any:
    if isinstance(schedulers, Mapping):
        return {name: _states(own) for name, own in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers or []]
