"""``python -m aftercommit.lint``."""

import sys

from aftercommit.lint.cli import main

sys.exit(main())
