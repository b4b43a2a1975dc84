"""What happens around the training loop: checkpoints, averaged weights, random states, logs and pictures."""

from .atomic_io import CheckpointWriteError
from .bad_samples import DataFaults, TooManyFaultsError
from .checkpointing import BestCheckpoint, LastCheckpoint, StepCheckpoint
from .csv_log import CSVLog
from .distributed import gathered
from .ema import EMAWeights
from .epoch_state import EpochState
from .grid import GridCare
from .nonfinite_guard import FiniteGuard
from .prediction_images import SampleImages
from .preemption import Preempted, Preemption
from .progress import ProgressBar
from .rng_state import RNGState
from .selection import BasisSelection
from .snapshots import WeightSnapshots

__all__ = [
    "BasisSelection",
    "BestCheckpoint",
    "CSVLog",
    "CheckpointWriteError",
    "DataFaults",
    "EMAWeights",
    "EpochState",
    "FiniteGuard",
    "GridCare",
    "LastCheckpoint",
    "Preempted",
    "Preemption",
    "ProgressBar",
    "RNGState",
    "SampleImages",
    "StepCheckpoint",
    "TooManyFaultsError",
    "WeightSnapshots",
    "gathered",
]
