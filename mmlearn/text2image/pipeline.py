"""From a sentence to a picture: tokeniser, text encoder and generator as one, and on disk.

Survey: 2.1.  What is saved is what drawing needs: the encoder of text and the generator, no discriminator.
"""

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.tokenisers import SPLITTERS, PlainWordTokeniser, Tokeniser, WordTokeniser
from mmlearn.files import package_data
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.attngan import AttnGANConfig, AttnGANGenerator
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig, TextEncoder
from mmlearn.text2image.dfgan import DFGANConfig, DFGANGenerator
from mmlearn.text2image.dfgan import draw_noise as truncated_noise
from mmlearn.text2image.dmgan import DMGANConfig, DMGANGenerator
from mmlearn.text2image.gan_cls import GANCLSConfig, TextToImageGenerator
from mmlearn.text2image.stackgan import StackGANv2Config, StackGANv2Generator

CHECKPOINTS = package_data("checkpoints")
Encoder = TextEncoder | CharCNNRNN
GENERATORS: dict[str, tuple[type, type[nn.Module]]] = {
    "gan-cls": (GANCLSConfig, TextToImageGenerator), "stackgan": (StackGANv2Config, StackGANv2Generator),
    "attngan": (AttnGANConfig, AttnGANGenerator), "dmgan": (DMGANConfig, DMGANGenerator),
    "dfgan": (DFGANConfig, DFGANGenerator)}
NAMES = tuple(GENERATORS)


class Encoded(NamedTuple):
    """What an encoder says of captions: words (b, t, e) and ``mask`` (b, t), where it reads words, and
    sentences (b, e)."""

    words: Tensor | None
    sentence: Tensor
    mask: Tensor | None


def encode(encoder: Encoder, tokens: Int[Tensor, "b t"]) -> Encoded:
    """Captions as ids of words, or as numbers of characters, to embeddings; the encoder moves to the ids'
    device."""
    encoder.to(tokens.device)
    if isinstance(encoder, CharCNNRNN):
        short = max(0, encoder.config.length - tokens.shape[1])     # a batch ends with its longest text
        return Encoded(None, encoder(F.pad(tokens, (0, short))), None)
    words, sentence = encoder(tokens)
    return Encoded(words, sentence, encoder.mask(tokens))


@dataclass(frozen=True)
class TextToImageConfig:
    """The configurations of a text encoder and of a generator that was trained with it."""

    text: DAMSMConfig | CharCNNRNNConfig
    image: GANCLSConfig | StackGANv2Config | AttnGANConfig | DMGANConfig | DFGANConfig


class TextToImage(nn.Module):
    """A text encoder, a generator that was trained with it, and the tokeniser of both.

    ``draw`` makes pictures of texts; ``forward`` makes them of tokens and noise, (b, t) and (b, z) -> (b, 3,
    s, s) in [-1, 1].
    """

    def __init__(self, config: TextToImageConfig, tokeniser: Tokeniser | None = None) -> None:
        super().__init__()
        self.config, self.tokeniser = config, tokeniser
        text = config.text
        self.encoder: Encoder = CharCNNRNN(text) if isinstance(text, CharCNNRNNConfig) else TextEncoder(text)
        self.generator = next(module for kind, module in GENERATORS.values()
                              if type(config.image) is kind)(config.image)

    @classmethod
    def of(cls, encoder: Encoder, model: Any, tokeniser: Tokeniser,
           texts: Sequence[str] = ()) -> "TextToImage":
        """The parts of a model that is being trained (its weights are shared, not copied).

        Of averaged weights give some ``texts``: the generator is then a copy with batch norm's statistics of
        its own.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.config = TextToImageConfig(encoder.config, model.config)       # type: ignore[arg-type]
        made.encoder, made.generator, made.tokeniser = encoder, model.generator, tokeniser
        if texts:
            made.generator = copy.deepcopy(model.generator)
            made.refresh_norms(texts)
        return made

    @property
    def system(self) -> str:
        """The name of the generator's system."""
        return next(name for name, (kind, _) in GENERATORS.items() if type(self.config.image) is kind)

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "b t"]:
        """Ids of the texts. Raises ``ValueError`` for a word that the model does not know, with words like
        it, and for a text without words."""
        if self.tokeniser is None:
            raise ValueError("the model has no tokeniser; load it with load_text_to_image")
        for text in texts:
            if isinstance(self.tokeniser, WordTokeniser):
                check_words(self.tokeniser, text)
        return self.tokeniser.batch(list(texts))

    def noise(self, count: int, seed: int = 0) -> Float[Tensor, "b z"]:
        """What the sentences do not say: ``count`` rows of normal numbers, for DF-GAN of the truncated normal
        that its code samples with."""
        draws = torch.Generator().manual_seed(seed)
        size = self.config.image.noise
        if isinstance(self.config.image, DFGANConfig):
            return truncated_noise(count, size, 0.88, draws)
        return torch.randn(count, size, generator=draws)

    def forward(
        self, tokens: Int[Tensor, "b t"], noise: Float[Tensor, "b z"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 y x"]:
        return self.images(encode(self.encoder, tokens), noise, generator)

    def images(
        self, text: Encoded, noise: Float[Tensor, "b z"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b 3 y x"]:
        """Pictures of embeddings, for instance of some between two sentences."""
        if isinstance(self.generator, AttnGANGenerator):
            return self.generator(noise, text.sentence, text.words, text.mask, generator).images[-1]
        if isinstance(self.generator, StackGANv2Generator):
            return self.generator(noise, text.sentence, generator).images[-1]
        return self.generator(noise, text.sentence)

    @torch.no_grad()
    def refresh_norms(self, texts: Sequence[str], batch: int = 64, rounds: int = 20, seed: int = 0) -> None:
        """Take batch norm's means and variances anew, from pictures of ``texts``: those that came with
        averaged weights belong to the last ones. A generator without batch norm stays as it is."""
        norms = [m for m in self.generator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            return
        with eval_mode(self.encoder), eval_mode(self.generator) as device:
            draws, momenta = torch.Generator().manual_seed(seed), [norm.momentum for norm in norms]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None                            # the plain mean of all rounds
                norm.train()
            for i in range(rounds):
                chosen = torch.randint(len(texts), (batch,), generator=draws).tolist()
                tokens = self.tokens([texts[j] for j in chosen]).to(device)
                self(tokens, self.noise(batch, seed * 1000 + i).to(device))
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum

    @torch.no_grad()
    def draw(
        self, texts: Sequence[str], samples: int = 1, seed: int = 0, *,
        noise: Float[Tensor, "n z"] | None = None, batch: int = 50,
    ) -> Float[Tensor, "n 3 y x"]:
        """Pictures in [-1, 1], ``samples`` of the first text, then of the second …; the same for the same
        seed. ``noise`` has one row a picture, if it is not to follow from the seed."""
        tokens = self.tokens(texts).repeat_interleave(samples, dim=0)
        return self.draw_tokens(tokens, seed, noise=noise, batch=batch)

    @torch.no_grad()
    def draw_tokens(
        self, tokens: Int[Tensor, "n t"], seed: int = 0, *, noise: Float[Tensor, "n z"] | None = None,
        batch: int = 50,
    ) -> Float[Tensor, "n 3 y x"]:
        """``draw`` of texts that are tokens already, one picture a row; words may be unknown."""
        with eval_mode(self.encoder), eval_mode(self.generator) as device:   # the encoder follows its tokens
            noise = self.noise(len(tokens), seed) if noise is None else noise
            draws = torch.Generator(device).manual_seed(seed)
            return torch.cat([self(t.to(device), z.to(device), draws).float().cpu()
                              for t, z in zip(tokens.split(batch), noise.split(batch))])


def check_words(tokeniser: WordTokeniser, text: str) -> None:
    """Raises ``ValueError`` for a text without words, and for a word that is not known, with known ones that
    are spelt like it."""
    words = SPLITTERS[tokeniser.splitter](text)
    if not words:
        raise ValueError(f"{text[:80]!r} has no word that the model could read; say what is to be drawn")
    word = next((word for word in words if word not in tokeniser.index), None)
    if word is None:
        return
    near = difflib.get_close_matches(word, tokeniser.index, 3, 0.6)
    hint = (f"near it are {', '.join(near)}" if near else
            f"it knows {len(tokeniser.index)} words, such as {', '.join(list(tokeniser.index)[:20])}")
    raise ValueError(f"{text[:80]!r}: the model does not know the word {word[:40]!r}; {hint}")


def sheet(pictures: Float[Tensor, "n 3 y x"], columns: int = 6) -> Image.Image:
    """Pictures in [-1, 1] side by side, rows of ``columns``; the places after the last are black."""
    empty = -torch.ones(-len(pictures) % min(columns, len(pictures)), *pictures.shape[1:])
    rows = torch.cat([pictures, empty]).split(min(columns, len(pictures)))
    whole = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray(((whole + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def pictures_of_sheet(image: Image.Image, columns: int = 6) -> Float[Tensor, "n 3 s s"]:
    """The square pictures, in [-1, 1], of a ``sheet`` with ``columns``. Raises ``ValueError`` for an image
    that does not divide so."""
    size, rest = divmod(image.width, columns)
    if rest or not size or image.height % size:
        raise ValueError(f"an image of {image.width} x {image.height} pixels is no sheet of square pictures "
                         f"in {columns} columns; say how many columns it has")
    whole = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
    rows = whole.unfold(1, size, size).unfold(2, size, size)                            # 3, row, column, y, x
    return rows.permute(1, 2, 0, 3, 4).flatten(0, 1)


def save_text_to_image(path: str | Path, model: TextToImage, about: dict[str, Any],
                       parts: Mapping[str, str] | None = None) -> None:
    """Write a model as ``path`` (.safetensors, 16 bits; or a folder) with its configuration, words and
    ``about``; ``parts`` are those of ``save_model``."""
    words = ({"splitter": model.tokeniser.splitter, "words": model.tokeniser.words}
             if isinstance(model.tokeniser, WordTokeniser) else {})
    save_model(path, model, model.system, {**about, **words}, half=True, parts=parts)


def place_of(name: str | Path) -> Path:
    """Where a model is: that of the book if ``name`` is one of ``NAMES``, else the path itself.

    Raises ``FileNotFoundError`` for a model of the book that did not come with this copy of it.
    """
    if str(name) not in NAMES:
        return Path(name)
    there = [known for known in NAMES if all(file.is_file() for file in pair_of(of_the_book(known)))]
    if str(name) not in there:
        take = f"take {' or '.join(there)}, or train" if there else "train"
        raise FileNotFoundError(f"the miniature {name} did not come with this copy of mmlearn (no "
                                f"{of_the_book(str(name))}); {take} one with `mmlearn train {name} --out "
                                f"DIR` and give DIR")
    return of_the_book(str(name))


def of_the_book(name: str) -> Path:
    """Where the weights of a miniature of chapter 2 are."""
    return CHECKPOINTS / f"{name}.safetensors"


def miniature_at(name: str | Path, system: str, remedy: str) -> Path:
    """Where a model is: the book's miniature of ``system`` if ``name`` is that, else the path itself.

    Raises ``FileNotFoundError``, with the remedy, if the book's did not come with this copy of it.
    """
    if str(name) != system:
        return Path(name)
    place = of_the_book(system)
    if not all(file.is_file() for file in pair_of(place)):
        raise FileNotFoundError(f"the miniature {system} did not come with this copy of mmlearn (no "
                                f"{place}); {remedy}")
    return place


def load_text_to_image(name: str | Path) -> TextToImage:
    """A trained model that comes with the book ("dfgan" …), or what ``save_text_to_image`` wrote at a path.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    path = place_of(name)
    remedy = f"give {', '.join(NAMES)} or the --out folder of `mmlearn train`"
    found, about = load_model(path, {kind: (TextToImageConfig, TextToImage) for kind in NAMES}, remedy)
    model = cast(TextToImage, found)
    description = pair_of(path)[1]
    text = model.config.text
    if isinstance(text, CharCNNRNNConfig):
        model.tokeniser = CharacterTokeniser(text.length)
    else:
        model.tokeniser = PlainWordTokeniser.of(about, description)
    return model


# ------------------------------------------------------------------------ what trains generators, and judges

ENCODERS = "train it with `python -m mmlearn.experiments text-encoders`"


def load_damsm(folder: Path | None = None) -> tuple[DAMSM, PlainWordTokeniser]:
    """The DAMSM that comes with the book, frozen, and its words. Raises ``FileNotFoundError``,
    ``ValueError``."""
    path = (folder or CHECKPOINTS) / "damsm.safetensors"
    model, about = load_model(path, {"damsm": (DAMSMConfig, DAMSM)}, ENCODERS)
    words = PlainWordTokeniser.of(about, path.with_suffix(".json"))
    return cast(DAMSM, model.requires_grad_(False)), cast(PlainWordTokeniser, words)


def load_char_cnn_rnn(folder: Path | None = None) -> tuple[CharCNNRNN, CharacterTokeniser]:
    """The char-CNN-RNN that comes with the book, frozen, and its characters. Raises ``FileNotFoundError``,
    ``ValueError``."""
    path = (folder or CHECKPOINTS) / "char-cnn-rnn.safetensors"
    model, _ = load_model(path, {"char-cnn-rnn": (CharCNNRNNConfig, CharCNNRNN)}, ENCODERS)
    encoder = cast(CharCNNRNN, model.requires_grad_(False))
    return encoder, CharacterTokeniser(encoder.config.length)


def load_judge(path: Path | None = None) -> SceneClassifier:
    """The classifier of scenes that comes with the book, frozen. Raises ``FileNotFoundError``,
    ``ValueError``."""
    kinds = {"scene-classifier": (SceneClassifierConfig, SceneClassifier)}
    model, _ = load_model(path or CHECKPOINTS / "scene-classifier.safetensors", kinds,
                          "give scene-classifier, or train one with `python -m mmlearn.experiments "
                          "scene-classifier`")
    return cast(SceneClassifier, model.requires_grad_(False))
