#!/usr/bin/env python
"""Django's command line for the test project."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The package beside this project, whether it is installed or not.
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
