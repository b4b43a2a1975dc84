"""Program that prints docs/bad_inputs.md: `python -m tests.bad_inputs`."""

from __future__ import annotations

from .document import document

if __name__ == "__main__":
    print(document(), end="")
