"""`python -m aalbert` is the command `aalbert`."""

import sys

from aalbert.cli import main

sys.exit(main())
