"""Train a model: `python train.py [group=choice ...] [key=value ...]`; `--help` explains."""

import sys

from kanvision.app.commands.train import run

if __name__ == "__main__":
    run(sys.argv[1:])
