"""Program `python -m kanvision.app.share`: the folder of a run for the Hugging Face hub or the package."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kanvision.config import EvalConfig
from kanvision.export import save_pretrained
from kanvision.pretrained import WEIGHTS

from .evaluate import evaluate
from .load_run import load_network

__all__ = ["main", "share"]


def share(
    ckpt: str | Path,
    folder: str | Path,
    *,
    command: str | None = None,
    license: str | None = None,
    half: bool = False,
    root: str | None = None,
) -> Path:
    """Write weights, configuration and model card of a run, with the scores of the written file.

    Args:
        ckpt: Run folder, checkpoint file or latest.
        folder: Folder of the files.
        command: Command that trained the network, for the card.
        license: License of the weights, as an identifier of the hub.
        half: Write parameters in half precision.
        root: Folder of the data; None: that of the run.

    Returns:
        The folder.
    """
    network, record = load_network(ckpt)
    facts = {**record.facts, "command": command}
    with tempfile.TemporaryDirectory() as draft:
        # the scores are those of the file, which its own card has
        save_pretrained(network, replace(record, facts=facts), draft, license=license, half=half)
        options = {"data": {"root": root}, "trainer": {"accelerator": "cpu", "enable_progress_bar": False}}
        scores = evaluate(EvalConfig(ckpt=str(Path(draft, WEIGHTS)), output=draft, images=False, **options))
        record = replace(record, facts={**facts, "file_scores": scores})
        shutil.rmtree(folder, ignore_errors=True)
        return save_pretrained(network, record, folder, license=license, half=half)


def main(words: Sequence[str] | None = None) -> None:
    """Run the program with the words of a command line."""
    parser = argparse.ArgumentParser(prog="python -m kanvision.app.share", description=__doc__)
    parser.add_argument("ckpt", help="run folder, checkpoint file or latest")
    parser.add_argument("folder", help="folder of the files, which is replaced")
    parser.add_argument("--command", help="command that trained the network, for the card")
    parser.add_argument("--license", help="license of the weights, as an identifier of the hub")
    parser.add_argument("--half", action="store_true", help="write parameters in half precision")
    parser.add_argument("--root", help="folder of the data")
    print(f"Written: {share(**vars(parser.parse_args(words)))}")


if __name__ == "__main__":
    main()
