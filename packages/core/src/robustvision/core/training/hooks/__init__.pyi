from .checkpoint import CheckpointHook as CheckpointHook
from .early_stop import EarlyStopHook as EarlyStopHook
from .json_log import JsonLogHook as JsonLogHook
from .loss_guard import LossGuardHook as LossGuardHook
from .progress import ProgressHook as ProgressHook
from .record import RecordHook as RecordHook
from .reduce_loss import ReduceLossHook as ReduceLossHook
from .seeding import SeedingHook as SeedingHook
