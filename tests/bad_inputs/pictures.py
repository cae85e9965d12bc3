"""Pictures as people have them and as nobody wants them: of all kinds, cut, flipped, renamed, boastful."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

COUNT = int(os.environ.get("MMLEARN_BAD_INPUTS", "120"))
KINDS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp",
         "PPM": ".ppm"}
SIZES = ((1, 1), (1, 7), (9, 1), (5, 8), (33, 20), (64, 64), (40, 130), (1, 99), (302, 3))
Pixels = np.ndarray


class Case(NamedTuple):
    """A file and what may become of it: read (``pixels`` are right, if given), refused, or either."""

    name: str
    content: bytes
    read: bool = True
    refused: bool = True
    pixels: Pixels | None = None


def numbers(rng: np.random.Generator, size: tuple[int, int], mode: str) -> tuple[Image.Image, Pixels | None]:
    """A picture of a mode, smooth so that it compresses, and the RGB that a reader sees over white."""
    wide, high = size
    ramp = np.add.outer(np.arange(high) * int(rng.integers(9)), np.arange(wide) * int(rng.integers(9)))
    colour = ((ramp[..., None] + rng.integers(0, 256, 3)) % 256).astype(np.uint8)
    grey, alpha = colour[..., 0], rng.integers(0, 2, (high, wide), dtype=np.uint8) * 255
    alike = np.repeat(grey[..., None], 3, 2)
    if mode == "RGB":
        return Image.fromarray(colour), colour
    if mode == "L":
        return Image.fromarray(grey), alike
    if mode == "RGBA":
        shown = np.where(alpha[..., None] > 0, colour, np.uint8(255))
        return Image.fromarray(np.dstack([colour, alpha])), shown
    if mode == "LA":
        return (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]),
                np.where(alpha[..., None] > 0, alike, np.uint8(255)))
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), alike
    if mode == "1":
        return Image.fromarray(grey > 127), np.where(alike > 127, np.uint8(255), np.uint8(0))
    if mode == "P":
        image = Image.fromarray(grey)
        image.putpalette(colours := rng.integers(0, 256, 768).astype(np.uint8).tobytes())
        return image, np.frombuffer(colours, np.uint8).reshape(256, 3)[grey]
    if mode in ("F", "I"):
        return Image.fromarray(grey.astype(np.float32 if mode == "F" else np.int32) * 300 - 9), None
    return Image.fromarray(colour).convert(mode), None


LOSSLESS = {"PNG": ("RGB", "L", "RGBA", "LA", "I;16", "1", "P"), "BMP": ("RGB", "L", "1", "P"),
            "TIFF": ("RGB", "L", "RGBA", "LA", "I;16", "1", "P"), "PPM": ("RGB", "L", "I;16", "1"),
            "GIF": ("L", "1")}
OTHERS = {"PNG": (), "BMP": (), "TIFF": ("CMYK", "LAB", "YCbCr", "F", "I"), "PPM": ("F",),
          "GIF": ("RGB", "RGBA"), "JPEG": ("RGB", "L", "CMYK", "1", "YCbCr"),
          "WEBP": ("RGB", "RGBA", "L", "CMYK")}


def encoded(image: Image.Image, kind: str, **how) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def whole(rng: np.random.Generator) -> tuple[str, Case]:
    """Its kind, and a sound file of it."""
    kind = str(rng.choice(list(KINDS)))
    mode = str(rng.choice([*LOSSLESS.get(kind, ()), *OTHERS.get(kind, ())]))
    image, pixels = numbers(rng, SIZES[rng.integers(len(SIZES))], mode)
    how: dict = {}
    if kind == "TIFF" and mode not in ("F", "I"):
        how["compression"] = str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))
    if kind == "JPEG" and mode != "1":
        how["progressive"] = bool(rng.integers(2))
    if kind in ("PNG", "GIF", "WEBP", "TIFF") and mode in ("RGB", "L") and rng.integers(3) == 0:
        how |= {"save_all": True, "append_images": [image.rotate(180)]}              # moving, or of two pages
    if kind in ("PNG", "JPEG", "WEBP") and mode == "RGB" and rng.integers(3) == 0:
        exif = Image.Exif()
        exif[274] = turn = int(rng.integers(1, 9))
        how["exif"], pixels = exif, None if pixels is None else upright(pixels, turn)
    pixels = pixels if mode in LOSSLESS.get(kind, ()) else None
    line = max(image.size) > 100 * min(image.size)
    return kind, Case(f"{kind}-{mode.replace(';', '')}", encoded(image, kind, **how), pixels=pixels,
                      read=not line, refused=line or mode in ("F", "I", "LAB"))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """What a viewer shows: EXIF says at which side the first row and the first column belong."""
    return {1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
            5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p)[:, ::-1],
            8: lambda p: np.rot90(p)}[orientation](pixels)


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that claims a size."""
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data))
            + chunk(b"IEND", b""))


def boastful(rng: np.random.Generator) -> Case:
    """A small file that claims to be huge."""
    wide, high = (int(2 ** rng.uniform(14, 31)) for _ in range(2))
    kind = int(rng.integers(6))
    if kind == 0:
        content = png(wide, high, bytes(100), colour=int(rng.choice([0, 2, 6])))
    elif kind == 1:
        content = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + bytes.fromhex(
            "2c00000000ffffffff0002024401003b")
    elif kind == 2:
        content = b"P6 %d %d 255\n" % (wide, high) + bytes(100)
    elif kind == 3:
        small = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        small[18:26] = struct.pack("<ii", wide % 2**31, high % 2**31)
        content = bytes(small)
    elif kind == 4:
        small = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
        at = small.index(b"\xff\xc0")
        small[at + 5:at + 9] = b"\xff\xff\xff\xff"
        content = bytes(small)
    else:
        fields = ((256, wide), (257, high), (258, 8), (259, 1), (262, 1), (273, 8), (278, high), (279, 100))
        content = (b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields))
                   + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields) + bytes(104))
    return Case(f"boast-{kind}{('.png', '.gif', '.ppm', '.bmp', '.jpg', '.tif')[kind]}", content, read=False)


NONE = {"empty.png": b"", "text.jpg": b"hello", "page.png": b"<html><body>404</body></html>",
        "drawing.svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "zip.png": b"PK\x03\x04" + bytes(40),
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "magic.jpg": b"\xff\xd8\xff",
        "magic.png": b"\x89PNG\r\n\x1a\n", "magic.gif": b"GIF89a", "magic.bmp": b"BM", "magic.tif": b"II*\0",
        "magic.webp": b"RIFF\0\0\0\0WEBP", "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\n",
        "phone.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
        "none.png": png(0, 5), "negative.png": png(2**31 + 5, 5)}


DAMAGES = ("whole", "cut", "cut", "flipped", "flipped", "flipped", "renamed", "noise", "boastful", "glued")


def cases(count: int = COUNT, seed: int = 0) -> Iterator[Case]:
    """``count`` files, the same for a seed."""
    for name, content in list(NONE.items())[:count]:
        yield Case(name, content, read=False)
    for i in range(count - len(NONE)):
        rng = np.random.default_rng((seed, i))
        kind, sound = whole(rng)
        what = DAMAGES[i % len(DAMAGES)]
        content = sound.content
        name = f"{i:05d}-{what}-{sound.name}{KINDS[kind]}"
        if what == "whole":
            yield sound._replace(name=name)
        elif what == "cut":                     # what is read of it is all of it
            yield sound._replace(name=name, content=content[:int(rng.random() * len(content))], refused=True)
        elif what == "flipped":                 # only a PNG has check sums
            changed = bytearray(content)
            for _ in range(int(rng.integers(1, 9))):
                reach = len(changed) if rng.integers(2) else min(len(changed), 60)
                changed[rng.integers(reach)] ^= 1 << rng.integers(8)
            yield Case(name, bytes(changed))
        elif what == "renamed":
            yield sound._replace(name=f"{i:05d}-renamed{rng.choice([*KINDS.values(), '.jpeg'])}")
        elif what == "noise":
            yield Case(name, content[:12] + rng.bytes(int(rng.integers(400))), pixels=None)
        elif what == "boastful":
            yield (one := boastful(rng))._replace(name=f"{i:05d}-{one.name}")
        else:                                   # something follows the picture, as phones and mails do
            yield sound._replace(name=name, content=content + rng.bytes(50))
