"""``mmlearn train SYSTEM``: train a system on drawn scenes or on pictures of one's own, so that it can be
killed and resumed.

Which systems there are, and the module that trains each, stands in ``mmlearn.catalog``.
"""

import argparse
import importlib

EXAMPLES = """examples:
  mmlearn train m2 --data scenes --out runs/m2
  mmlearn train m2 --phase scst --steps 100 --out runs/m2
  mmlearn train m2 --data coco --images train2017 --annotations captions_train2017.json --out runs/coco
  mmlearn train m2 --resume --out runs/coco
  mmlearn train clip --data folder --images photos --out runs/clip
  mmlearn train dfgan --data folder --images photos --hold-out 50 --out runs/dfgan
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add a parser for every system that can be trained."""
    from mmlearn.catalog import SYSTEMS

    parser.epilog = EXAMPLES
    commands = parser.add_subparsers(dest="system", metavar="SYSTEM", required=True)
    for system in SYSTEMS:
        if system.trainer:
            sub = commands.add_parser(system.command, help=f"{system.name} (survey {system.section})",
                                      description=f"{system.name}. {system.paper}.",
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
            importlib.import_module(system.trainer).add(sub, system)
