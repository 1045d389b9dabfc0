"""`python -m torchref`."""

import os
import sys
import traceback


def _run() -> None:
    """The command line; where it cannot be imported, status 2, as for every failure."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.flags.safe_path and sys.path[0] != own:
        # `-m` puts the caller's folder first, where a json.py of theirs would be Python's json.
        sys.path.append(sys.path.pop(0))
    try:
        from torchref.cli import main
    except Exception:
        traceback.print_exc()
        sys.exit(2)
    main(prog_name="python -m torchref")


if __name__ == "__main__":
    _run()
