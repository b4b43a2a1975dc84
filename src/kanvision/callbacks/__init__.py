"""What happens around the training loop: checkpoints, averaged weights, random states, pictures, progress."""

from .checkpointing import BestCheckpoint, LastCheckpoint
from .ema import EMAWeights
from .progress import ProgressBar
from .rng_state import RNGState
from .sample_images import SampleImages

__all__ = ["BestCheckpoint", "EMAWeights", "LastCheckpoint", "ProgressBar", "RNGState", "SampleImages"]
