"""Callbacks of training: checkpoints, averaged weights, random states, logs and pictures."""

from .atomic_io import CheckpointWriteError
from .averaged_weights import AveragedWeights, EMAWeights, SWAWeights
from .bad_samples import BadSampleCounter, TooManyBadSamplesError
from .checkpointing import BestCheckpoint, LastCheckpoint, StepCheckpoint, WeightSnapshots
from .csv_log import CSVLog
from .distributed import all_gather_object
from .early_stopping import EarlyStopping
from .epoch_state import EpochState
from .grid import GridUpdate
from .image_scores import ImageOutputs, ImageScores
from .lr_finder import LearningRateFinder
from .nonfinite_guard import NonFiniteGuard
from .prediction_images import PredictionImages
from .preemption import Preempted, Preemption
from .progress import EpochEstimate, ProgressBar
from .rng_state import RNGState
from .selection import BasisSelection
from .test_predictions import TestPredictions
from .training_clock import TrainingClock

__all__ = [
    "AveragedWeights",
    "BadSampleCounter",
    "BasisSelection",
    "BestCheckpoint",
    "CSVLog",
    "CheckpointWriteError",
    "EMAWeights",
    "EarlyStopping",
    "EpochEstimate",
    "EpochState",
    "GridUpdate",
    "ImageOutputs",
    "ImageScores",
    "LastCheckpoint",
    "LearningRateFinder",
    "NonFiniteGuard",
    "PredictionImages",
    "Preempted",
    "Preemption",
    "ProgressBar",
    "RNGState",
    "SWAWeights",
    "StepCheckpoint",
    "TestPredictions",
    "TooManyBadSamplesError",
    "TrainingClock",
    "WeightSnapshots",
    "all_gather_object",
]
