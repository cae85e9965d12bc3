"""``mmlearn train flamingo``: a frozen language model learns to read pictures between its words.

Drawn scenes come with the language model and the encoder of the book, and with questions, instructions and
pages that bind words to pictures. For pictures of one's own the first phase trains a language model on their
captions; then it is frozen, and pages of pictures with captions are read. Checkpoints are in ``language`` and
``flamingo``; ``language.safetensors`` is the frozen model of a run, beside ``model.safetensors``.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from mmlearn.cli.trainer import (
    VALIDATION_SCENES,
    Estimate,
    add_common,
    asked_for,
    check_settings,
    ending,
    go_on,
    keep_history,
    one_first,
    open_records,
    reached,
    tell,
)
from mmlearn.cli.training import alone, has_begun, refuse_to_write_over, remember

if TYPE_CHECKING:
    from mmlearn.both_modalities.flamingo_training import MixedBatches
    from mmlearn.both_modalities.interleaved import Example
    from mmlearn.both_modalities.language_model import SavedLM
    from mmlearn.catalog import System
    from mmlearn.data.pairs import PairData

DEFAULTS = {"batch": 24, "lr": 1e-3, "warmup": 50}
EPOCHS, LANGUAGE_EPOCHS = 10, 20            # of the pictures, where steps are not given
THINGS = 1000                               # pictures of one thing, for pages that bind words
MOST = 4                                    # pictures of a page
CONTEXT = 128                               # tokens of a page for the language model
WATCH = "-own"                              # the loss of captions with their own picture, as low as it gets
EVALUATIONS = 10


class Data(NamedTuple):
    """Pictures to train on and to judge on, and what is said of the former."""

    train: "PairData"
    val: "PairData | None"
    examples: "list[Example]"


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train flamingo``."""
    parser.epilog = ("example:\n  mmlearn train flamingo --data folder --images photos --hold-out 50 --out "
                     "runs/flamingo")
    parser.add_argument("--encoder", choices=("resnet", "vit"), default="resnet",
                        help="the frozen encoder of pictures, a CLIP of chapter 4 (default resnet)")
    parser.add_argument("--language-steps", type=int, metavar="STEPS",
                        help=f"of the language model, on captions of your own (default: {LANGUAGE_EPOCHS} "
                             f"epochs)")
    parser.set_defaults(size="mini")
    add_common(parser, run, {
        "steps": f"default: {EPOCHS} epochs of the pictures", "batch": "pages a step (default 24)",
        "lr": "after the warm-up (default 1e-3)", "warmup": "default 50, at most a quarter of the steps"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train flamingo --help``."""
    from mmlearn.both_modalities.flamingo_training import (
        caption_losses,
        encode_pictures,
        mini_config,
        new_flamingo,
        save_flamingo,
        scene_encoder,
        train_flamingo,
    )
    from mmlearn.both_modalities.interleaved import look_at_features

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data = open_data(settings)
        settings["steps"] = settings["steps"] or EPOCHS * max(1, len(data.train) // settings["batch"])
        if settings["data"] != "scenes":
            texts = max(1, len(data.examples) // settings["batch"])
            settings["language_steps"] = settings["language_steps"] or LANGUAGE_EPOCHS * texts
        remember(args.out, settings)
    language = language_of(args, settings, data, writes)
    encoder = scene_encoder(settings["encoder"])
    features = encode_pictures(encoder, data.train.images)
    model = new_flamingo(mini_config(language.model, features.shape[-1]), language.model, settings["seed"])
    judged = data.train.first(200) if data.val is None else data.val
    look = look_at_features(encode_pictures(encoder, judged.images))

    def judge(trained: Any) -> dict[str, float]:
        losses = caption_losses(trained, judged, language.tokeniser, look)
        return {name: round(float(loss.mean()), 4) for name, loss in losses.items()}

    untrained = judge(model)
    options: dict[str, Any] = {} if data.val is None else {
        "evaluate": judge, "watch": WATCH, "evaluate_every": max(1, settings["steps"] // EVALUATIONS)}
    history = train_flamingo(
        model, batches_of(settings, data, features, language, encoder), steps=settings["steps"],
        lr=settings["lr"], warmup=settings["warmup"], seed=settings["seed"], folder=args.out / "flamingo",
        save_every=settings["save_every"], precision=settings["precision"], progress=sys.stderr,
        title="flamingo", on_step=Estimate(settings["steps"]), **options)
    if not writes:
        return
    scores, part = judge(model), "training" if data.val is None else "validation"
    save_flamingo(args.out, model.adapter, settings["encoder"],
                  {"settings": settings, f"{part} captions": scores, "untrained": untrained},
                  "scene-lm" if settings["data"] == "scenes" else "language")
    keep_history(args.out / "history.json", history)
    trained = sum(p.numel() for p in model.adapter.parameters())
    gate = history.scalars["gate"][-1]
    result = {"out": str(args.out), "steps": history.steps[-1], "trained parameters": trained,
              "frozen parameters of the language model": sum(p.numel() for p in model.language.parameters()),
              "pictures": len(data.train), "last loss": history.smooth(10)[-1], "mean gate": gate,
              "judged on": f"{len(judged)} {part} pictures", "captions": scores, "untrained": untrained,
              "best": history.best, "seconds": round(history.seconds, 1)}
    tell(args, result, "\n".join(line for line in [
        f"flamingo: {trained:,} trained parameters, {result['steps']} steps on {len(data.train)} pictures, "
        f"loss {result['last loss']:.3f}, gates {gate:.3f} open", ending(history, WATCH),
        f"nats a token of captions of {result['judged on']}, in brackets before training:",
        *(f"  with {name + (' picture' if name != 'none' else ''):<22}{value:8.4g} ({untrained[name]:.4g})"
          for name, value in scores.items())] if line))


def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    asked = {**asked_for(args), "phase": "flamingo"}
    begun = has_begun(args.out, "flamingo", "history.json") or bool(reached(args.out / "language"))
    if args.resume:
        return go_on(args, asked, {**defaults, "phase": "flamingo"})
    refuse_to_write_over(args.out, begun)
    asked |= {name: value for name, value in DEFAULTS.items() if asked[name] is None}
    check_settings(asked)
    if asked["data"] == "scenes" and asked["language_steps"] is not None:
        raise ValueError("--language-steps is for pictures of your own, drawn scenes have the language model "
                         "of the book; leave it out, or say --data")
    return asked


def open_data(settings: dict[str, Any]) -> Data:
    """Pictures of 64 pixels and what is said of them."""
    from mmlearn.both_modalities.interleaved import caption_examples
    from mmlearn.both_modalities.language_model import all_examples
    from mmlearn.data.pairs import file_pairs, scene_pairs

    val: PairData | None
    if settings["data"] == "scenes":
        train, val = scene_pairs(settings["scenes"]), scene_pairs(VALIDATION_SCENES, "val")
        examples = all_examples(train)
    else:
        records, held = open_records(settings)
        train, val = file_pairs(records), file_pairs(held) if held else None
        examples = caption_examples(train)
    if len(train) < 2:
        raise ValueError(f"there is {len(train)} picture to train on; give 2 or more, a page shows several")
    if len(examples) < settings["batch"]:
        raise ValueError(f"--batch is {settings['batch']}, and there are {len(examples)} captions; take "
                         f"{len(examples)} or less")
    return Data(train, val, examples)


def language_of(
    args: argparse.Namespace, settings: dict[str, Any], data: Data, writes: bool
) -> "SavedLM":
    """The frozen language model: that of the book, or one that has read the captions of the run."""
    from mmlearn.both_modalities.flamingo_training import language_path
    from mmlearn.both_modalities.interleaved import ChunkTokeniser
    from mmlearn.both_modalities.language_model import SavedLM as Saved
    from mmlearn.both_modalities.language_model import freeze_, load_lm, save_lm, train_lm
    from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
    from mmlearn.nn.modes import seeded

    if settings["data"] == "scenes":
        return load_lm(language_path(args.out, "scene-lm"))
    texts = [text for example in data.examples for text in (example.request, example.answer)]
    words = ChunkTokeniser.train(texts)
    with seeded(settings["seed"]):
        model = CausalLM(CausalLMConfig.mini(len(words), CONTEXT))
    steps = settings["language_steps"]
    history = train_lm(model, data.examples, words, steps=steps, batch=settings["batch"], binding=0.0,
                       seed=settings["seed"], folder=args.out / "language",
                       save_every=settings["save_every"], progress=sys.stderr, title="language model",
                       on_step=Estimate(steps))
    if writes:
        save_lm(args.out / "language.safetensors", model, words, {"settings": settings})
        keep_history(args.out / "history-language.json", history)
        saved = load_lm(args.out / "language.safetensors")      # as it will be opened: in 16 bits
        return Saved(freeze_(saved.model), saved.tokeniser, saved.about)     # type: ignore[arg-type]
    return Saved(freeze_(model.half().float()), words, {})      # type: ignore[arg-type]


def batches_of(
    settings: dict[str, Any], data: Data, features: Any, language: "SavedLM", encoder: Any
) -> "MixedBatches":
    """Pages of what is said of the pictures; of drawn ones also pages that bind words."""
    from mmlearn.both_modalities.flamingo_training import MixedBatches, encode_pictures, scene_batches
    from mmlearn.both_modalities.interleaved import PageBatches, look_at_features
    from mmlearn.data.pairs import class_pictures

    look, of, size = look_at_features(features), language.tokeniser, settings["batch"]
    if settings["data"] != "scenes":
        pages = PageBatches(data.examples, of, look, size, most=MOST, seed=settings["seed"])
        return MixedBatches({"pages": pages})
    things = class_pictures(min(THINGS, max(150, settings["scenes"] // 2)), "train")
    look_at_things = look_at_features(encode_pictures(encoder, things.images))
    return scene_batches(data.examples, look, things, look_at_things, of, batch=size, most=MOST,
                         seed=settings["seed"])
