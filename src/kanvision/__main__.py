"""Command `kanvision`, the same as `python -m kanvision`; its imports can be stopped like the program."""

import sys

from kanvision.signals import handle_stop_signals


def main() -> int:
    """Run the program that the command line names; return the exit status."""
    with handle_stop_signals("stopped before the program started; run the same command again"):
        from kanvision.app.commands.main import main as run

        return run()


if __name__ == "__main__":
    sys.exit(main())
