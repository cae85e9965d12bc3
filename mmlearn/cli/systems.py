"""``mmlearn systems``: the catalogue, with parameter counts."""

import argparse
import json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn systems``."""
    parser.epilog = "example:\n  mmlearn systems --json"
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the catalogue."""
    from mmlearn.catalog import as_records

    records = as_records()
    if args.json:
        print(json.dumps(records, indent=2, ensure_ascii=False))
        return
    for record in records:
        print(f"{record['section']:<6} {record['name']}")
        print(f"       {record['paper']}")
        for c in record["configurations"]:
            published = f"  published {c['published']:,}" if c["published"] else ""
            print(f"       {c['name']:<16} {c['parameters']:>13,} parameters{published}")
        for key in ("oracle", "weights"):
            if record[key]:
                print(f"       {key}: {record[key]}")
        print()
