"""`python -m labcore`."""

import sys
import warnings

from labcore.cli.main import main

if __name__ == "__main__":
    if not sys.warnoptions:
        # A library's advice to programmers is not for the person at the terminal, who is promised one line where
        # their input is refused. `python -W default -m labcore` shows it.
        warnings.simplefilter("ignore")
    sys.exit(main())
