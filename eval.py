"""Evaluate a trained model: `python eval.py ckpt=<run folder, checkpoint or latest>`; `--help` explains."""

import sys

from kanvision.signals import handle_stop_signals

if __name__ == "__main__":
    with handle_stop_signals("stopped before evaluation started; run the same command again"):
        from kanvision.app.commands.evaluate import run

        run(sys.argv[1:])
