"""Train a model: `python train.py [group=choice ...] [key=value ...]`; `--help` explains."""

import sys

from kanvision.signals import handle_stop_signals

if __name__ == "__main__":
    with handle_stop_signals("stopped before training started; run the same command again"):
        from kanvision.app.commands.train import run

        run(sys.argv[1:])
