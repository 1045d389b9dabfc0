"""What needs another process, a package, a browser or pages."""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_python(*arguments: str, **options: Any) -> str:
    """What Python says with these arguments, in a process of its own that must end well."""
    command = [sys.executable, *arguments]
    options = {"cwd": ROOT} | options
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
