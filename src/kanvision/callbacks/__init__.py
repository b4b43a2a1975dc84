"""What happens around the training loop: checkpoints, averaged weights, random states, logs and pictures."""

from .checkpoint_io import CheckpointWriteError
from .checkpointing import BestCheckpoint, LastCheckpoint, StepCheckpoint
from .csv_log import CSVLog
from .data_faults import DataFaults, TooManyFaultsError
from .ema import EMAWeights
from .epoch_state import EpochState
from .finite_guard import FiniteGuard
from .grid import GridCare
from .preemption import Preempted, Preemption
from .processes import gathered
from .progress import ProgressBar
from .rng_state import RNGState
from .sample_images import SampleImages
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
