"""Trained network of a run as a function of images, without the trainer and without Hydra."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from kanvision.checkpoints import CheckpointError, find_checkpoint, load_checkpoint, load_state_dict
from kanvision.export import ImagePredictor, NetworkRecord
from kanvision.export.formats import FORMATS, find_format
from kanvision.export.formats.safetensors import read_network

from .checkpoint_record import describe_network, read_checkpoint_config, read_facts

__all__ = ["load_network", "load_run"]

WEIGHTS = FORMATS["safetensors"].suffix


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
        path: Run folder (its best checkpoint), checkpoint file, latest, name of weights in the package, or a
            file of mode=export, which runs in its own runtime.
        runs_root: Folder of the runs that latest considers.
        device: Device of the network.

    Raises:
        CheckpointError: If there is no such checkpoint, it is damaged, or it does not fit its configuration.
        ConfigError: If this version does not know the checkpoint's configuration.
        ExportError: If an exported file cannot be read here.
    """
    file = find_checkpoint(path, runs_root=runs_root)
    exported = find_format(file)
    if exported is not None and file.suffix != WEIGHTS:
        return ImagePredictor(*exported.read(file))  # on the CPU, which its runtime has chosen
    network, record = load_network(file)
    return ImagePredictor(network.to(device), record, device=device)


def load_network(path: str | Path, *, runs_root: str | Path = "runs") -> tuple[nn.Module, NetworkRecord]:
    """Return the network of a run, in evaluation mode and in float32, without gradients, and its record.

    Raises:
        CheckpointError: As for `load_run`.
        ConfigError: As for `load_run`.
        ExportError: As for `load_run`.
    """
    file = find_checkpoint(path, runs_root=runs_root)
    if file.suffix == WEIGHTS:
        return read_network(file)
    checkpoint = load_checkpoint(file)
    record = describe_network(read_checkpoint_config(file, checkpoint), checkpoint["kanvision"])
    record = replace(record, facts=read_facts(file))
    network = record.build()
    try:
        load_state_dict(network, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{file} does not fit {record.name}: {error}") from None
    return network.float().eval().requires_grad_(False), record
