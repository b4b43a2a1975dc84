"""Trained network of a run as a function of images, without the trainer and without Hydra."""

from __future__ import annotations

from pathlib import Path

import torch

from kanvision.checkpoints import CheckpointError, find_checkpoint, load_checkpoint, load_state_dict
from kanvision.export import ImagePredictor

from .checkpoint_record import describe_network, read_checkpoint_config

__all__ = ["load_run"]


def load_run(
    path: str | Path, *, runs_root: str | Path = "runs", device: str | torch.device = "cpu"
) -> ImagePredictor:
    """Return the network of a run as a function of images.

    The function does what `eval.py mode=predict` does: it decodes, resizes and normalizes images as the
    evaluation of the run does, and names classes. Neither Lightning nor Hydra is imported.

        predictor = kv.load_run("runs/convkan_digits/2026-11-30_22-21-06")
        prediction = predictor("photo.png")
        print(prediction.label, prediction.probability)

    Args:
        path: Run folder (its best checkpoint), checkpoint file, or latest.
        runs_root: Folder of the runs that latest considers.
        device: Device of the network.

    Raises:
        CheckpointError: If there is no such checkpoint, it is damaged, or it does not fit its configuration.
        ConfigError: If this version does not know the checkpoint's configuration.
    """
    file = find_checkpoint(path, runs_root=runs_root)
    checkpoint = load_checkpoint(file)
    record = describe_network(read_checkpoint_config(file, checkpoint), checkpoint["kanvision"])
    network = record.build()
    try:
        load_state_dict(network, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{file} does not fit {record.name}: {error}") from None
    network.eval().requires_grad_(False).to(device, torch.float32)
    return ImagePredictor(network, record, device=device)
