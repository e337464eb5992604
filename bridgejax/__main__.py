"""``python -m bridgejax`` is the ``bridgejax`` command."""

import sys

from bridgejax.cli import main

if __name__ == "__main__":
    sys.exit(main())
