"""`python -m kanvision`, the same as the command `kanvision`."""

import sys

from kanvision.app.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
