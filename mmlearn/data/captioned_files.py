"""Pictures with captions from a folder or a table: ``captions.csv`` with the columns *file* and *caption*.

Survey: none.  A picture with several captions has several lines. Nothing outside the folder of the pictures
is opened.
"""

import csv
from pathlib import Path

from mmlearn.data.coco import CaptionRecord, inside

NAME = "captions.csv"               # beside the pictures of a folder


def read_captions(table: str | Path, images: str | Path | None = None) -> list[CaptionRecord]:
    """The pictures of a table in the order of their first line; ``images`` is their folder (default: the
    table's own).

    ``table`` may be a folder that holds pictures and ``captions.csv``. Raises ``FileNotFoundError`` for a
    file that is missing and ``ValueError`` for a table without the two columns or a line without caption.
    """
    table = Path(table)
    if table.is_dir():
        table = table / NAME
    if not table.is_file():
        raise FileNotFoundError(f"there is no table {table}; give a CSV file, or a folder with {NAME} "
                                f"(columns file, caption)")
    folder = table.parent if images is None else Path(images)
    captions: dict[str, list[str]] = {}
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in ("file", "caption") if name not in (rows.fieldnames or ())]
            if missing:
                raise ValueError(f"{table} has the columns {', '.join(rows.fieldnames or ()) or 'none'}; it "
                                 f"needs file and "
                                 "caption in its first line")
            for row in rows:
                if not (row["file"] or "").strip() or not (row["caption"] or "").strip():
                    raise ValueError(f"{table}, line {rows.line_num}: a file or a caption is empty; leave "
                                     f"the line out")
                captions.setdefault(row["file"].strip(), []).append(row["caption"].strip())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} cannot be read as CSV ({error}); save it as UTF-8 with commas") from error
    records = [CaptionRecord(i, inside(folder, name), tuple(texts)) for i,
               (name, texts) in enumerate(captions.items())]
    if not records:
        raise ValueError(f"{table} has no line below its first; give at least one picture with a caption")
    absent = next((record.path for record in records if not record.path.is_file()), None)
    if absent is not None:
        raise FileNotFoundError(f"{table} names {absent.name}, which is not in {folder}; check the folder of "
                                f"the pictures")
    return records
