"""Callbacks of training: checkpoints, averaged weights, random states, logs and pictures."""

from .atomic_io import CheckpointWriteError
from .bad_samples import BadSampleCounter, TooManyBadSamplesError
from .checkpointing import BestCheckpoint, LastCheckpoint, StepCheckpoint
from .csv_log import CSVLog
from .distributed import all_gather_object
from .ema import EMAWeights
from .epoch_estimate import EpochEstimate
from .epoch_state import EpochState
from .grid import GridUpdate
from .image_scores import ImageOutputs, ImageScores
from .nonfinite_guard import NonFiniteGuard
from .prediction_images import PredictionImages
from .preemption import Preempted, Preemption
from .progress import ProgressBar
from .rng_state import RNGState
from .selection import BasisSelection
from .snapshots import WeightSnapshots
from .test_predictions import TestPredictions
from .training_clock import TrainingClock

__all__ = [
    "BadSampleCounter",
    "BasisSelection",
    "BestCheckpoint",
    "CSVLog",
    "CheckpointWriteError",
    "EMAWeights",
    "EpochEstimate",
    "EpochState",
    "GridUpdate",
    "ImageOutputs",
    "ImageScores",
    "LastCheckpoint",
    "NonFiniteGuard",
    "PredictionImages",
    "Preempted",
    "Preemption",
    "ProgressBar",
    "RNGState",
    "StepCheckpoint",
    "TestPredictions",
    "TooManyBadSamplesError",
    "TrainingClock",
    "WeightSnapshots",
    "all_gather_object",
]
