"""`python -m labcore`."""

import sys

from labcore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
