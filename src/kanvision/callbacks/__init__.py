"""What happens around the training loop: checkpoints, averaged weights, random states, logs and pictures."""

from .checkpointing import BestCheckpoint, LastCheckpoint
from .csv_log import CSVLog
from .ema import EMAWeights
from .grid import GridCare
from .progress import ProgressBar
from .rng_state import RNGState
from .sample_images import SampleImages
from .selection import BasisSelection

__all__ = [
    "BasisSelection",
    "BestCheckpoint",
    "CSVLog",
    "EMAWeights",
    "GridCare",
    "LastCheckpoint",
    "ProgressBar",
    "RNGState",
    "SampleImages",
]
