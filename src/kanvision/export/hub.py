"""Folders in the layout of the Hugging Face hub: weights, configuration and model card.

timm reads them too, by `hf-hub:` and `local-dir:`, if the network is one of its registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import get_pretrained_cfg
from torch import nn

from kanvision.pretrained import CONFIG, WEIGHTS

from .card import write_card
from .errors import ExportError, import_extra
from .formats.safetensors import build_network, read_weights, write_weights
from .predictor import ImagePredictor
from .record import NetworkRecord, RecordError

__all__ = ["HUB", "LOCAL", "from_pretrained", "push", "save_pretrained"]

HUB, LOCAL = "hf-hub:", "local-dir:"
TIMM_FIELDS = ("classifier", "first_conv", "fixed_input_size", "paper_ids")
"""Entries of timm's configuration of a model that its shared configuration repeats."""


def save_pretrained(
    network: nn.Module,
    record: NetworkRecord,
    folder: str | Path,
    *,
    license: str | None = None,
    half: bool = False,
) -> Path:
    """Write model.safetensors, config.json and README.md of a network.

    Args:
        network: The network.
        record: Its record; the model card is made of the facts in it.
        folder: Folder of the files.
        license: License of the weights, as an identifier of the hub ("apache-2.0"); None: not stated.
        half: Write parameters in half precision.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS, network, record, torch.float16 if half else None)
    config = _timm_config(record, license)
    config["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    (folder / "README.md").write_text(write_card(record, license), "utf-8")
    return folder


def from_pretrained(
    source: str, *, cache_dir: str | Path | None = None, device: str | torch.device = "cpu"
) -> ImagePredictor:
    """Return a shared network as a function of images.

    The weights are compared with the checksum in config.json. Nothing but tensors and plain values is read.

    Args:
        source: `hf-hub:<owner>/<name>`, with `@<revision>` behind it for a certain one, or
            `local-dir:<folder>`.
        cache_dir: Folder of downloaded files; None: that of the hub's library. A file in it is used without
            the network if HF_HUB_OFFLINE=1.
        device: Device of the network.

    Raises:
        ExportError: If the files are missing, damaged, or of another program.
    """
    if source.startswith(HUB):
        find = _hub_finder(source.removeprefix(HUB), cache_dir)
    elif source.startswith(LOCAL):
        folder = Path(source.removeprefix(LOCAL)).expanduser()

        def find(name: str) -> Path:
            return folder / name
    else:
        raise ExportError(f"{source}: legal: {HUB}<owner>/<name> or {LOCAL}<folder>")
    path = find(CONFIG)
    if not path.is_file():
        raise ExportError(f"{source}: {path} is missing")
    record = read_config(path)
    weights = find(WEIGHTS)
    wanted = json.loads(path.read_text("utf-8")).get("sha256")
    if weights.is_file() and wanted is not None:
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
        if found != wanted:
            raise ExportError(f"{weights}: sha256 is {found}, not {wanted} as in {CONFIG}; copy it again")
    network = build_network(record, read_weights(weights)[0], weights)
    return ImagePredictor(network.to(device), record, device=device)


def read_config(path: Path) -> NetworkRecord:
    """Return the record in a config.json.

    Raises:
        RecordError: If it holds none.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RecordError(f"{path}: is no json ({error})") from None
    record = values.get("kanvision") if isinstance(values, Mapping) else None
    if not isinstance(record, Mapping):
        raise RecordError(f"{path}: holds no network of kanvision; timm.create_model may read it")
    return NetworkRecord.from_dict(record, path)


def push(folder: str | Path, repo_id: str, *, private: bool = False, api: Any = None) -> str:
    """Upload a folder of `save_pretrained` to the Hugging Face hub, as a new repository or a new version.

    Args:
        folder: The folder.
        repo_id: `<owner>/<name>`.
        private: A new repository is visible to its owner alone.
        api: Client of the hub; None: `huggingface_hub.HfApi()`, which reads the token of the login.

    Returns:
        Name for `from_pretrained`.

    Raises:
        ExportError: If a file is missing, or huggingface_hub is not installed.
    """
    folder = Path(folder)
    names = (CONFIG, WEIGHTS, "README.md")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ExportError(f"{folder}: without {', '.join(missing)}; save_pretrained writes them")
    read_config(folder / CONFIG)
    if api is None:
        api = import_extra("huggingface_hub", "hub").HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo_id, folder_path=folder, allow_patterns=list(names), commit_message="Upload of kanvision"
    )
    return f"{HUB}{repo_id}"


def _timm_config(record: NetworkRecord, license: str | None) -> dict[str, Any]:
    """Return the content of config.json: what timm reads, and the record."""
    spec = record.input
    known = get_pretrained_cfg(record.name, allow_unregistered=True)
    cfg: dict[str, Any] = {name: getattr(known, name) for name in TIMM_FIELDS} if known else {}
    cfg |= {
        "input_size": [spec.in_chans, spec.img_size, spec.img_size],
        "num_classes": record.arguments.get("num_classes", record.num_classes),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
    }
    if license is not None:
        cfg["license"] = license
    if record.class_names and record.mode is None:
        cfg["label_names"] = list(record.class_names)
    arguments = {
        name: value for name, value in record.arguments.items() if name not in ("num_classes", "in_chans")
    }
    return {
        "architecture": record.name,
        "num_classes": cfg["num_classes"],
        "model_args": {**arguments, "in_chans": spec.in_chans},
        "pretrained_cfg": cfg,
        "kanvision": record.to_dict(),
    }


def _hub_finder(name: str, cache_dir: str | Path | None) -> Callable[[str], Path]:
    """Return the function that downloads a file of a repository, or finds it in the cache."""
    hub = import_extra("huggingface_hub", "hub")
    repo_id, _, revision = name.partition("@")

    def find(file: str) -> Path:
        try:
            return Path(hub.hf_hub_download(repo_id, file, revision=revision or None, cache_dir=cache_dir))
        # errors of the library, of the network, and of illegal names
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ExportError(
                f"{HUB}{name}: {file} cannot be fetched ({reason}); a folder with the files works without "
                f"the network: {LOCAL}<folder>"
            ) from error

    return find
