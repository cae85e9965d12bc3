"""``python -m mmlearn`` is the console script ``mmlearn``."""

from mmlearn.cli import main

raise SystemExit(main())
