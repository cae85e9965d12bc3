"""``mmlearn train gan-cls|attngan|dmgan|dfgan``: an encoder of text, then a generator against a
discriminator.

Drawn scenes show one thing each and come with the encoders of the book. For pictures of one's own the first
phase trains an encoder on their captions: DAMSM, or for gan-cls char-CNN-RNN, which meets the features of
EfficientNet-Lite0 as Reed et al. met those of GoogLeNet. Checkpoints are in ``encoder`` and ``game``.
"""

import argparse
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mmlearn.cli.trainer import (
    VALIDATION_SCENES,
    Estimate,
    add_common,
    asked_for,
    check_settings,
    go_on,
    keep_history,
    one_first,
    open_records,
    reached,
    tell,
)
from mmlearn.cli.training import alone, has_begun, refuse_to_write_over, remember
from mmlearn.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmlearn.catalog import System
    from mmlearn.data.pairs import PairData
    from mmlearn.data.tokenisers import Tokeniser
    from mmlearn.text2image.damsm import DAMSM
    from mmlearn.text2image.pipeline import Encoder
    from mmlearn.text2image.training import Config, Match

BATCH = 32
EPOCHS, ENCODER_EPOCHS = 100, 50            # of a run whose steps are not given
EVALUATIONS = 10                            # of a run
JUDGED, SHOWN = 100, 12                     # captions that are drawn at an evaluation, and those on the sheet
MAX_LEN = 18                                # words of a caption
PIXELS = {"gan-cls": (16, 32, 64, 128), "dfgan": (16, 32, 64, 128, 256),
          "attngan": (32, 64, 128, 256), "dmgan": (32, 64, 128, 256)}
AGAINST_DAMSM = ("attngan", "dmgan")


class Reader(NamedTuple):
    """What reads captions, and the network of pictures that it was trained with."""

    encoder: "Encoder"
    tokeniser: "Tokeniser"
    whole: "DAMSM | Encoder"                # what the game needs of it
    codes: "Callable[[Tensor], Tensor]"     # pictures, embedded where the encoder embeds captions
    name: str


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train dfgan`` and its kin."""
    parser.epilog = (f"example:\n  mmlearn train {system.command} --data folder --images photos --hold-out "
                     f"50 --out runs/{system.command}")
    parser.add_argument("--size", choices=[c.name for c in system.configurations], default="mini",
                        help="the miniature, or a published size for pictures of your own (default mini)")
    parser.add_argument("--pixels", type=int,
                        help=f"side of the miniature's pictures: "
                             f"{', '.join(map(str, PIXELS[system.command]))} (default 64)")
    parser.add_argument("--encoder-steps", type=int, metavar="STEPS",
                        help=f"of the text encoder, on captions of your own (default: {ENCODER_EPOCHS} "
                             f"epochs)")
    add_common(parser, run, {
        "steps": f"of the generator (default: {EPOCHS} epochs)",
        "batch": f"pictures a step (default {BATCH})",
        "lr": "of the generator; the discriminator's is 4 times that in dfgan, the same else (default: dfgan "
              "2e-4, else 4e-4, and half of it in a published size)"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train dfgan --help``."""
    from mmlearn.nn.modes import seeded
    from mmlearn.text2image.damsm import TextEncoder
    from mmlearn.text2image.training import RECIPES, new_game, stretch_sentences, train_game

    with one_first(args) as writes:
        settings = plan(args, defaults)
        reader = reader_of_the_book(settings)               # before anything is drawn or read
        data, val = open_data(settings)
        settings["steps"] = settings["steps"] or EPOCHS * max(1, len(data) // settings["batch"])
        if settings["data"] != "scenes":
            settings["encoder_steps"] = settings["encoder_steps"] or ENCODER_EPOCHS * max(1, len(data) // 40)
        own = reader is None
        reader = reader or new_reader(settings, data)
        remember(args.out, settings)
    if own:
        train_reader(args, settings, reader, data, writes)
    if settings["size"] == "mini" and isinstance(reader.encoder, TextEncoder):
        stretch_sentences(reader.encoder, reader.tokeniser, [texts[0] for texts in data.captions[:2000]])
    with seeded(settings["seed"]):
        model, game = new_game(sizes(settings, reader), reader.whole, kinds_in(data))
    judge = Judge(args, settings, reader, data, (data if val is None else val).first(JUDGED))
    recipe = RECIPES[settings["system"]]
    history = train_game(
        model, game, data, reader.tokeniser, steps=settings["steps"], batch=settings["batch"],
        lr=settings["lr"],
        critic_lr=settings["lr"] * (recipe.get("critic_lr", recipe["lr"]) / recipe["lr"]),
        betas=recipe["betas"], max_len=MAX_LEN, seed=settings["seed"], folder=args.out / "game",
        save_every=settings["save_every"], precision=settings["precision"], progress=sys.stderr,
        title=settings["system"], on_step=Estimate(settings["steps"]), evaluate=judge,
        evaluate_every=max(1, settings["steps"] // EVALUATIONS))
    if not writes:
        return
    scores = judge(history.ema)
    keep_history(args.out / "history.json", history)
    part = "training" if val is None else "validation"
    report(args, settings, reader, judge, {
        "out": str(args.out), "steps": history.steps[-1], "encoder steps": settings["encoder_steps"],
        "parameters": {name: sum(p.numel() for p in of.parameters()) for name, of in model.named_children()},
        "pictures": len(data), "words": len(reader.tokeniser), "text encoder": reader.name,
        "last loss": {name: history.scalars[name][-1] for name, _ in model.named_children()},
        "judged on": f"{len(judge.texts)} {part} captions", **scores,
        "samples": str(args.out / "samples.png"), "seconds": round(history.seconds, 1)})


def report(args: argparse.Namespace, settings: dict[str, Any], reader: Reader, judge: "Judge",
           result: dict[str, Any]) -> None:
    """Say what came of the run."""
    real, drawn = judge.real, result.get("R-precision")
    result |= {"judge": reader.name, "among": real and real.candidates + 1,
               "R-precision of the pictures themselves": real and round(real.precision, 4)}
    judged = "" if real is None else (
        f"R-precision among {real.candidates + 1}, by the {reader.name}, on {result['judged on']}: "
        f"{drawn:.3f}; of the pictures themselves {real.precision:.3f}, by chance "
        f"{1 / (real.candidates + 1):.3f}")
    if judged and settings["system"] in AGAINST_DAMSM:
        judged += f"\n{settings['system']} was trained to please this DAMSM, which flatters it"
    lines = [f"{settings['system']}: {result['parameters']['generator']:,} parameters of the generator, "
             f"{result['steps']} steps on {result['pictures']} pictures of {settings['pixels']} pixels",
             judged, f"{result['samples']} shows what it draws; draw with mmlearn generate TEXT --weights "
                     f"{args.out} --out x.png"]
    tell(args, result, "\n".join(line for line in lines if line))


class Judge:
    """For ``fit``'s evaluate: draws captions, writes the model and its sheet of samples, and measures what
    can be measured without a classifier of what is seen: R-precision by the reader of the run."""

    def __init__(self, args: argparse.Namespace, settings: dict[str, Any], reader: Reader,
                 train: "PairData", data: "PairData") -> None:
        from mmlearn.data.pairs import signed_pixels

        self.out, self.settings, self.reader = args.out, settings, reader
        self.known = [captions[0] for captions in train.captions]       # no word of these is new
        self.texts = [captions[0] for captions in data.captions]
        self.tokens = reader.tokeniser.batch(self.texts, MAX_LEN)
        self.kinds = kinds_in(data)
        self.real = self.match(signed_pixels(data.images[:]))

    def match(self, images: "Tensor") -> "Match | None":
        from mmlearn.text2image.training import text_match

        return text_match(images, self.reader.codes, self.reader.encoder, self.tokens, self.kinds)

    def __call__(self, model: Any) -> dict[str, float]:
        from mmlearn.nn.modes import seeded
        from mmlearn.text2image.pipeline import TextToImage, save_text_to_image, sheet

        with seeded(self.settings["seed"]):
            trained = TextToImage.of(self.reader.encoder, model, self.reader.tokeniser, self.known)
        drawn = trained.draw_tokens(self.tokens, seed=self.settings["seed"])
        picture = io.BytesIO()
        sheet(drawn[:SHOWN]).save(picture, "PNG")
        write_atomically(self.out / "samples.png", picture.getvalue())
        found = self.match(drawn)
        scores = {} if found is None else {"R-precision": round(found.precision, 4)}
        save_text_to_image(self.out, trained, {"settings": self.settings, **scores, "judge": self.reader.name,
                                               "samples": self.texts[:SHOWN]})
        return scores


# --------------------------------------------------------------------------------------------------- settings

def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    from mmlearn.checkpoints import steps_in
    from mmlearn.text2image.training import RECIPES

    asked = {**asked_for(args), "phase": "game"}
    begun = has_begun(args.out, "game", "history.json") or bool(steps_in(args.out / "encoder"))
    if args.resume:
        return go_on(args, asked, {**defaults, "phase": "game"})
    refuse_to_write_over(args.out, begun)
    asked["batch"] = BATCH if asked["batch"] is None else asked["batch"]
    if asked["lr"] is None:                                 # the released code's: half of the miniatures'
        asked["lr"] = RECIPES[args.system]["lr"] / (1 if asked["size"] == "mini" else 2)
    check_settings(asked)
    if asked["batch"] < 2:
        raise ValueError(f"--batch is {asked['batch']}; take 2 or more, a discriminator learns from pictures "
                         f"with captions of others")
    if asked["data"] == "scenes" and asked["encoder_steps"] is not None:
        raise ValueError("--encoder-steps is for pictures of your own; drawn scenes come with the text "
                         "encoder of the book, leave it out")
    if asked["size"] != "mini":
        if asked["data"] == "scenes":
            raise ValueError(f"--size {asked['size']} is for --data coco, folder or csv; drawn scenes have "
                             f"the text encoder of the miniature")
        if asked["pixels"] is not None:
            raise ValueError(f"--pixels is for --size mini; --size {asked['size']} says it itself, leave it "
                             f"out")
        config = published(asked)
        asked["pixels"] = getattr(config, "sizes", (config.size,))[-1]
    elif asked["pixels"] is None:
        asked["pixels"] = 64
    elif asked["pixels"] not in PIXELS[args.system]:
        raise ValueError(f"--pixels is {asked['pixels']}; take one of "
                         f"{', '.join(map(str, PIXELS[args.system]))}")
    return asked


def published(settings: dict[str, Any]) -> Any:
    """The published configuration of that name."""
    from mmlearn.text2image.pipeline import GENERATORS

    return getattr(GENERATORS[settings["system"]][0], settings["size"])()


def sizes(settings: dict[str, Any], reader: Reader) -> "Config":
    """The configuration of the run, for what its encoder says of a caption."""
    from dataclasses import replace

    from mmlearn.text2image.training import mini_config

    text = reader.encoder.config.embed
    if settings["size"] == "mini":
        return mini_config(settings["system"], settings["pixels"], text)
    return replace(published(settings), text=text)


# ------------------------------------------------------------------------------------------------------- data

def open_data(settings: dict[str, Any]) -> "tuple[PairData, PairData | None]":
    """Pairs to train on, and those to judge on where there are some."""
    from mmlearn.data.pairs import file_pairs
    from mmlearn.data.things import thing_pairs

    size = settings["pixels"]
    if settings["data"] == "scenes":
        data = thing_pairs(settings["scenes"], size=size)
        val: PairData | None = thing_pairs(VALIDATION_SCENES, "val", size=size)
    else:
        train, held = open_records(settings)
        data, val = file_pairs(train, size), file_pairs(held, size) if held else None
    if len(data) < 2:
        raise ValueError(f"there is {len(data)} picture to train on; give 2 or more, a discriminator learns "
                         f"from pictures with captions of others")
    if len(kinds_in(data).unique()) < 2:
        raise ValueError(f"all {len(data)} pictures to train on say {data.captions[0][0][:80]!r}; give some "
                         f"with other captions, a discriminator learns from captions that do not fit")
    return data, val


def kinds_in(data: "PairData") -> "Tensor":
    """A number for each picture: those with the same fit each other's captions. Of pictures in files it is
    that of their first caption."""
    import torch

    from mmlearn.data.things import kinds_of

    if data.scenes:
        return kinds_of(data.scenes)
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(captions[0], len(numbers)) for captions in data.captions])


# ------------------------------------------------------------------------------------------ encoders of text

def reader_of_the_book(settings: dict[str, Any]) -> Reader | None:
    """The reader of drawn scenes, which comes with the book; None for pictures of one's own."""
    from mmlearn.text2image.pipeline import load_char_cnn_rnn, load_damsm, load_judge

    if settings["data"] != "scenes":
        return None
    if settings["system"] == "gan-cls":
        encoder, letters = load_char_cnn_rnn()
        return Reader(encoder, letters, encoder, codes_of(load_judge()), "char-CNN-RNN of the book")
    damsm, words = load_damsm()
    return Reader(damsm.text, words, damsm, codes_of(damsm.image), "DAMSM of the book")


def new_reader(settings: dict[str, Any], data: "PairData") -> Reader:
    """A fresh reader of the captions of one's own pictures."""
    import torch

    from mmlearn.data.pairs import scene_tokeniser
    from mmlearn.data.tokenisers import PlainWordTokeniser
    from mmlearn.nn.feature_networks import Lite0Features
    from mmlearn.nn.modes import seeded
    from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN
    from mmlearn.text2image.damsm import DAMSM

    if settings["system"] == "gan-cls":
        network = Lite0Features().to("cuda" if torch.cuda.is_available() else "cpu")
        with seeded(settings["seed"]):
            encoder = CharCNNRNN(characters_of(settings, network.num_features))
        letters = CharacterTokeniser(encoder.config.length)
        check_texts(data, lambda text: letters.batch([text]))
        return Reader(encoder, letters, encoder, codes_of(network), "char-CNN-RNN of this run")
    known = scene_tokeniser(data)
    words = PlainWordTokeniser(known.words, known.splitter)
    check_texts(data, lambda text: words.batch([text]))
    with seeded(settings["seed"]):
        damsm = DAMSM(damsm_of(settings, len(words)))
    return Reader(damsm.text, words, damsm, codes_of(damsm.image), "DAMSM of this run")


def characters_of(settings: dict[str, Any], embed: int) -> Any:
    """char-CNN-RNN of a run: the miniature, or the one that was published for GAN-CLS, as wide as the
    features that it shall meet."""
    from dataclasses import replace

    from mmlearn.text2image.char_cnn_rnn import LENGTH, CharCNNRNNConfig

    if settings["size"] == "mini":
        return CharCNNRNNConfig.mini(embed, LENGTH)
    return replace(CharCNNRNNConfig.icml(), embed=embed)


def damsm_of(settings: dict[str, Any], vocab: int) -> Any:
    """DAMSM of a run. Its network of pictures is small and learns from them alone, at every size."""
    from dataclasses import replace

    from mmlearn.text2image.damsm import DAMSMConfig

    if settings["size"] == "mini":
        return DAMSMConfig.mini(vocab, min(settings["pixels"], 64))
    return replace(DAMSMConfig.mini(vocab, 128), words=300, embed=published(settings).text, trunk_width=64)


def codes_of(network: "nn.Module") -> "Callable[[Tensor], Tensor]":
    """Pictures in [-1, 1] to embeddings, whatever device the network is on."""
    import torch

    from mmlearn.nn.modes import eval_mode

    def codes(images: "Tensor") -> "Tensor":
        with torch.no_grad(), eval_mode(network) as device:
            found = network(images.to(device))
            return found[1] if isinstance(found, tuple) else found      # DAMSM: regions, then the code

    return codes


def check_texts(data: "PairData", read: "Callable[[str], Tensor]") -> None:
    """Raises ``ValueError`` with the picture and the caption in which there is nothing to read."""
    paths = getattr(data.images, "paths", None)
    for i, texts in enumerate(data.captions):
        for text in texts:
            try:
                empty = read(text).numel() == 0
            except ValueError:
                empty = True
            if empty:
                raise ValueError(f"the caption {text[:80]!r} of {paths[i] if paths else f'picture {i}'} has "
                                 f"nothing that the text encoder reads; mend it, or leave it out")


def train_reader(args: argparse.Namespace, settings: dict[str, Any], reader: Reader, data: "PairData",
                 writes: bool) -> None:
    """The first phase: the encoder learns to meet the pictures of its captions. Of one that has ended the
    weights are read."""
    import torch

    from mmlearn.data.pairs import signed_pixels
    from mmlearn.text2image.char_cnn_rnn import CharCNNRNN
    from mmlearn.text2image.training import train_char_cnn_rnn, train_damsm

    folder, steps = args.out / "encoder", settings["encoder_steps"]
    options: dict[str, Any] = {
        "steps": steps, "seed": settings["seed"], "folder": folder, "save_every": settings["save_every"],
        "progress": sys.stderr, "title": "text encoder", "on_step": Estimate(steps)}
    if isinstance(reader.whole, CharCNNRNN):
        features: Any = reader.codes
        if reached(folder) < steps:                         # of all pictures once, the network is frozen
            features = torch.cat([reader.codes(signed_pixels(data.images[i:i + 50])).cpu()
                                  for i in range(0, len(data), 50)])
        history = train_char_cnn_rnn(reader.whole, features, data, reader.tokeniser, **options)
    else:
        history = train_damsm(reader.whole, data, reader.tokeniser, max_len=MAX_LEN, **options)  # type: ignore
    if writes:
        keep_history(args.out / "history-encoder.json", history)
