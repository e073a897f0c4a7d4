"""The training loop that goes on where a checkpoint was written, also in the middle of an epoch."""

from __future__ import annotations

from typing import Any

from mmengine.dist import broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop

from robustvision.core.errors import InputError
from robustvision.core.training.sampling import EpochSampler


class ResumableLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which starts an epoch at the batch that ``iter`` says.

    The batches before it are not read. After a checkpoint of an epoch's last step, no batch is left: only the end of
    the epoch runs, with its validation, as it would have without the interruption.

    Args:
        runner: The runner.
        dataloader: A loader, or the config of one, over an :class:`EpochSampler`.
        max_epochs: Number of epochs.
        val_begin: First epoch after which to validate, from 1.
        val_interval: Validate every so many epochs, and after the last.

    Raises:
        InputError: The loader has another sampler, batches of varying size, or no batch at all.
    """

    def __init__(
        self, runner: Any, dataloader: Any, max_epochs: int, val_begin: int = 1, val_interval: int = 1
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval)
        loader = self.dataloader
        if not isinstance(loader.sampler, EpochSampler) or loader.batch_size is None:
            raise InputError(
                f"train_dataloader has the sampler {type(loader.sampler).__name__}: resuming in mid-epoch needs "
                "robustvision.core.training.EpochSampler and a fixed batch_size (leave `sampler` out to get both)"
            )
        if len(loader) == 0:
            raise InputError(
                f"the training data hold {len(loader.dataset)} samples, fewer than one batch: {loader.batch_size} in "
                f"each of {runner.world_size} process(es). Lower train_dataloader.batch_size, or set "
                "train_dataloader.drop_last=False"
            )

    def run_epoch(self) -> None:
        """Run what is left of the current epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done == len(self.dataloader):  # what a model finds in the hub, as the step before left it
            self.runner.message_hub.update_info("iter", self._iter - 1)
        self.dataloader.sampler.start = done * self.dataloader.batch_size
        for batch_index, batch in enumerate(self.dataloader, done):
            self.run_iter(batch_index, batch)
        self._share_buffers()
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _share_buffers(self) -> None:
        """Give every process the first one's buffers, such as running means: those that the checkpoint holds.

        Otherwise each validates with its own, and a resumed run with other ones than the uninterrupted run.
        """
        if is_model_wrapper(self.runner.model):
            for buffer in self.runner.model.module.buffers():
                broadcast(buffer)
