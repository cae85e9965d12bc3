"""Imagination for many sentences: pictures that are kept in a folder as soon as they are there, and what CLIP
reads in them.

Paper: Y. Lu et al. (2022), *Imagination-Augmented Natural Language Understanding*, NAACL, arXiv:2204.08535,
whose pictures are made by VQGAN+CLIP (``vqgan_clip``) and kept as files, and whose features are CLIP's, not
normalised.  Survey: 3.6.
Differs from the paper: equal sentences share a picture, and a picture is a function of its sentence.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mmlearn.data.images import read_image, standardise
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.files import locked, make_folder, read_json, write_atomically
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP, as_bytes, resized
from mmlearn.nn.modes import eval_mode
from mmlearn.progress import Progress
from mmlearn.text_for_vision.clip import CLIP

SETTINGS = "settings.json"


def embedded(clip: CLIP, tokeniser: Tokeniser, texts: Sequence[str],
             batch: int = 256) -> Float[Tensor, "n e"]:
    """CLIP's embeddings of sentences, not normalised, in evaluation mode, where its weights are."""
    with eval_mode(clip) as device, torch.no_grad():
        tokens = tokeniser.batch(texts, clip.config.context)
        return torch.cat([clip.encode_text(part.to(device)) for part in tokens.split(batch)]).float()


def seen(clip: CLIP, pictures: UInt8[Tensor, "n 3 s s"], batch: int = 100) -> Float[Tensor, "n e"]:
    """CLIP's embeddings of square pictures, resized where they are not of its size, not normalised, in
    evaluation mode, where its weights are."""
    size = clip.config.size
    with eval_mode(clip) as device, torch.no_grad():
        return torch.cat([clip.encode_image(standardise(resized(part.to(device).float() / 255, size))).float()
                          for part in pictures.split(batch)])


def imagined_pictures(
    model: VQGANCLIP, tokeniser: Tokeniser, texts: Sequence[str], folder: Path | None = None, *,
    seed: int = 0, batch: int = 16, at_once: int = 8, progress: bool = False,
) -> UInt8[Tensor, "n 3 y x"]:
    """A picture of every sentence, ``batch`` different ones at a time.

    With ``folder`` each is written there as a PNG file as soon as it is there, and read the next time; one
    process at a time may write there. Raises ``ValueError`` if the folder holds pictures of other models,
    another recipe or another seed, ``OSError`` if it cannot be written.
    """
    if not texts:
        raise ValueError("there is no sentence to imagine; give at least one")
    different = list(dict.fromkeys(texts))
    known: dict[str, Tensor] = {}
    if folder is None:
        known = _draw(model, tokeniser, different, None, seed, batch, at_once, progress)
    else:
        with locked(make_folder(folder)):
            _check_settings(folder / SETTINGS, _settings(model, seed))
            known = {text: _read(path, model.config.size) for text in different
                     if (path := place_of(folder, text)).exists()}
            rest = [text for text in different if text not in known]
            known |= _draw(model, tokeniser, rest, folder, seed, batch, at_once, progress)
    return torch.stack([known[text] for text in texts])


def place_of(folder: Path, text: str) -> Path:
    """Where the picture of a sentence is kept."""
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.png"


def _draw(model: VQGANCLIP, tokeniser: Tokeniser, texts: Sequence[str], folder: Path | None, seed: int,
          batch: int, at_once: int, progress: bool) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    with Progress(len(texts), "imagining", shown=progress, unit="picture") as bar:
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            found = model.imagine(embedded(model.clip, tokeniser, part), seed=seed, at_once=at_once)
            for text, picture in zip(part, as_bytes(found.images)):
                made[text] = picture
                if folder is not None:
                    _write(place_of(folder, text), picture)
            bar.update(start + len(part))
    return made


def _write(path: Path, picture: Tensor) -> None:
    content = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(content, "PNG")
    write_atomically(path, content.getvalue())


def _read(path: Path, size: int) -> Tensor:
    picture = torch.from_numpy(np.array(read_image(path).convert("RGB"))).permute(2, 0, 1)
    if tuple(picture.shape) != (3, size, size):
        raise ValueError(f"{path} has {picture.shape[1]} x {picture.shape[2]} pixels, expected {size} x "
                         f"{size}; delete it, so that it is imagined again")
    return picture


def _settings(model: VQGANCLIP, seed: int) -> dict[str, object]:
    """What pictures depend on: recipe, seed and the weights, by their sums."""
    sums = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sums.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return json.loads(json.dumps({"config": asdict(model.config), "seed": seed,
                                  "weights": sums.hexdigest()[:24]}))


def _check_settings(path: Path, wanted: dict[str, object]) -> None:
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=1) + "\n")
        return
    found = read_json(path)
    if found != wanted:
        differ = [name for name in wanted if found.get(name) != wanted[name]]
        raise ValueError(f"{path.parent} holds pictures that were imagined with another "
                         f"{' and '.join(differ)}; give another folder")
