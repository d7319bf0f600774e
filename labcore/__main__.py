"""`python -m labcore`."""

import sys
import warnings

if __name__ == "__main__":
    if not sys.warnoptions:
        # A library's advice to programmers is not for the person at the terminal, who is promised one line where
        # their input is refused. `python -W default -m labcore` shows it.
        warnings.simplefilter("ignore")
    if "--ahead" in sys.argv:  # of a worker that nobody waits for yet
        from labcore.training import ahead

        ahead.come_up()
    from labcore.cli.main import main

    sys.exit(main())
