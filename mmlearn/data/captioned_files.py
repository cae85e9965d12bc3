"""Pictures with captions from a folder or a table: ``captions.csv`` with the columns *file* and *caption*.

Survey: none.  A picture with several captions has several lines. Nothing outside the folder of the pictures
is opened.
"""

import csv
import io
from pathlib import Path

from mmlearn.data.coco import CaptionRecord, inside, is_file
from mmlearn.files import read_text

NAME = "captions.csv"               # beside the pictures of a folder


def read_captions(table: str | Path, images: str | Path | None = None,
                  column: str = "caption") -> list[CaptionRecord]:
    """The pictures of a table in the order of their first line; ``images`` is their folder (default: the
    table's own).

    ``table`` may be a folder that holds pictures and ``captions.csv``; ``column`` holds the texts. Raises
    ``FileNotFoundError`` for a file that is missing and ``ValueError`` for a table without the two columns or
    a line without caption.
    """
    table = Path(table)
    if table.is_dir():
        table = table / NAME
    if not table.is_file():
        raise FileNotFoundError(f"there is no table {table}; give a CSV file, or a folder with {NAME} "
                                f"(columns file, {column})")
    folder = table.parent if images is None else Path(images)
    captions: dict[str, list[str]] = {}
    paths: dict[str, Path] = {}
    rows = csv.DictReader(io.StringIO(read_text(table, "save it as UTF-8 with commas")), strict=True)
    try:
        names = list(rows.fieldnames or ())
        for name in ("file", column):
            if name not in names:
                raise ValueError(f"{table} has the columns {', '.join(names)[:80] or 'none'}; it needs file "
                                 f"and {column} in its first line, parted by a comma")
            if names.count(name) > 1:
                raise ValueError(f"{table} has two columns {name!r}; leave one out")
        for row in rows:
            line = f"{table}, line {rows.line_num}"
            if None in row:                                     # more cells than columns
                raise ValueError(f"{line}: it has more cells than the first line has columns; put a {column} "
                                 f"that holds a comma in quotes")
            name, caption = (row["file"] or "").strip(), (row[column] or "").strip()
            if not name or not caption:
                raise ValueError(f"{line}: a file or a {column} is empty; leave the line out")
            if name not in captions:
                paths[name] = inside(folder, name, line)
            captions.setdefault(name, []).append(caption)
    except csv.Error as error:
        raise ValueError(f"{table} cannot be read as CSV (line {rows.line_num}: {error}); save it as UTF-8 "
                         f"with commas") from None
    records = [CaptionRecord(i, paths[name], tuple(texts)) for i,
               (name, texts) in enumerate(captions.items())]
    if not records:
        raise ValueError(f"{table} has no line below its first; give at least one picture with a caption")
    absent = next((record.path for record in records if not is_file(record.path)), None)
    if absent is not None:
        raise FileNotFoundError(f"{table} names {absent.name[:60]}, which is not in {folder}; check the "
                                f"folder of the pictures")
    return records
