"""Pages that wait for their rewrite. A page stands here until its tests would pass without it, and not
longer."""

# Notebooks with lines of code, output or listings over 79 columns (tools/notebooks.py check).
WIDE_SOURCE: set[str] = set()

# Pages of the site that cut something off at 1300 px (tools/cut_off.py).
CUT_OFF: set[str] = set()
