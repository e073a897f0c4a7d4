"""The record of a run begins when its first step does."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.hooks import Hook

from robustvision.core.training.run_record import RunRecord, describe_data, read_record


class RecordHook(Hook):
    """Start ``run.json`` once the data are read and the checkpoint of a resumed run has turned out to fit.

    So whatever is wrong before that leaves the folder as it was, and the same call can be made again.

    Args:
        record: The record.
    """

    priority = "HIGHEST"

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def before_train(self, runner: Any) -> None:
        """Write what the run is made of."""
        earlier = read_record(runner.work_dir) if runner.is_resuming else None
        data = {"train": describe_data(runner.train_dataloader.dataset)}
        if runner.val_loop is not None:
            data["val"] = describe_data(runner.val_dataloader.dataset)
        self.record.start(runner.recipe, seed=runner.seed, device=runner.device, processes=runner.world_size, data=data)
        if earlier is not None:
            changes = self.record.go_on(earlier, step=runner.iter)
            if changes:
                logging.getLogger("robustvision").warning("resumed with other settings: %s", "; ".join(changes))
