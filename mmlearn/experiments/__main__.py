"""``python -m mmlearn.experiments NAME``."""

import sys

from mmlearn.experiments import main

sys.exit(main())
