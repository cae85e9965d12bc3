"""``python -m mmlearn.recipes NAME``."""

import sys

from mmlearn.recipes import main

sys.exit(main())
