"""`python -m mtactl`."""

import sys

from mtactl.cli import main

sys.exit(main())
