"""Evaluate a trained model: `python eval.py ckpt=<run folder, checkpoint or latest>`; `--help` explains."""

import sys

from kanvision.app.commands.evaluate import run

if __name__ == "__main__":
    run(sys.argv[1:])
