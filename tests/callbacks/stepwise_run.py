"""Trains the tiny problem on one or two processes; Lightning runs it again for the second one.

Usage: stepwise_run.py <folder> <epochs> [--devices N] [--resume CHECKPOINT] [--every-n-steps N]
    [--signal-at STEP --signal-rank RANK]

With --signal-at, that process gets SIGTERM in that step: by `raise_signal`, whose handler has run when it
returns, while a signal of `os.kill` may reach another thread first and be handled a step later.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.callbacks.stepwise import At, train

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("epochs", type=int)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--every-n-steps", type=int)
    parser.add_argument("--signal-at", type=int)
    parser.add_argument("--signal-rank", type=int, default=0)
    given = parser.parse_args()
    more = []
    if given.signal_at and int(os.environ.get("LOCAL_RANK", "0")) == given.signal_rank:
        more.append(At(given.signal_at, lambda: signal.raise_signal(signal.SIGTERM)))
    train(
        given.folder,
        *more,
        resume=given.resume,
        every_n_steps=given.every_n_steps,
        max_epochs=given.epochs,
        devices=given.devices,
        strategy="ddp" if given.devices > 1 else "auto",
    )
