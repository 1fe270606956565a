"""``python -m sparsedd`` is the command ``sparsedd``."""

import sys

from sparsedd.cli import main

if __name__ == "__main__":
    sys.exit(main())
