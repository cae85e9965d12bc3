"""Studies that take longer than a page, with their results under ``data/``.  ``python -m mmlearn.experiments
NAME``.

A study is one module, ``<chapter>/<study>.py``, with ``add(parser)`` and ``run(args)``, which returns what
was measured; it is written to ``data/results/NAME.json`` together with the settings, versions, device and
date. Run one at a time on an idle machine if its seconds are to mean something.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

import mmlearn
from mmlearn.files import package_data, write_atomically

RESULTS = package_data("results")

EXPERIMENTS = {  # the chapter's folder / name of the study: what it does
    "image2text/detector": "train the Faster R-CNN whose regions M2 reads, and measure its AP",
    "image2text/m2-ablation":
        "plain Transformer, memory, mesh, both, one-to-one, softmax gates: learning curves with seeds",
    "image2text/scst": "self-critical training after cross-entropy, with and without <eos> in the reward",
    "image2text/m2-photographs": "M2 at the paper's size on a COCO folder, killed half-way and resumed",
    "image2text/picture-swap":
        "does a captioner of photographs look? its loss with the right picture and with another",
    "image2text/captioner-grid":
        "the CNN + Transformer from pixels, trained until it captions, and two ways of not looking",
    "image2text/m2-regions": "M2 on the regions of the detector, trained until it captions",
    "text2image/mode-collapse":
        "eight Gaussians: what a GAN's losses, its steps and a slow discriminator do to the modes it draws",
    "text2image/scene-classifier":
        "the judge of drawn pictures: category, colour and setting, read by a network",
    "text2image/text-encoders":
        "DAMSM and char-CNN-RNN, trained on pictures of one thing and their sentences",
    "text2image/text-to-image":
        "the miniatures that draw: GAN-INT-CLS, AttnGAN, DM-GAN, DF-GAN, trained and judged",
    "text2image/diffusion-losses":
        "a ring of blobs: a diffusion model that predicts the noise or the mean, by the bound or the simple "
        "loss",
    "text2image/glide":
        "the miniature of GLIDE: base model, holes, upsampler; trained and judged at several scales of "
        "guidance",
    "text2image/vqgan":
        "the first stages of the miniatures: VQGAN's codes, or normal latents, and what is lost by them",
    "text2image/unclip-prior":
        "DALL-E 2's prior over the miniature CLIP: the embedding predicted, or its noise; one draw or two",
    "text2image/matching":
        "GAN, GAN-CLS, GAN-INT and GAN-INT-CLS: does the discriminator read, what is drawn, how evenly",
    "text2image/successors":
        "StackGAN-v2, AttnGAN, DM-GAN and DF-GAN with the same pictures, sentences and steps, three seeds",
    "text2image/dvae":
        "the miniature dVAE: pictures of one thing as codes, with the paper's three annealings",
    "text2image/dalle":
        "the miniature DALL-E: codes of pictures after the words of a sentence, and a choice by CLIP",
    "text2image/dvae-kl":
        "a small dVAE with three weights of its KL: errors, codes in use, seeds",
    "images_for_language/vokenizer":
        "the miniature vokenizer of scene captions, trained, judged and saved",
    "images_for_language/glove-terms":
        "GloVe without biases, weight or distance, and the two vectors of a word alone",
    "images_for_language/vokens":
        "vokens beside hidden words, and shuffled, random and other ones: colours that no sentence says",
    "images_for_language/bert-mini":
        "a small BERT on captions: hidden words, pairs of captions, two senses of a word; without pairs or "
        "positions",
    "images_for_language/sequential-fusion":
        "text and pictures of words, counted, mixed and fused: Spearman's rho over the weight, with controls",
    "images_for_language/word-space":
        "vectors of text and of pictures of the same words, stored for the page on which they are weighed",
    "images_for_language/zero-shot-words":
        "words that were only read: are their pictures found and named? skip-gram and ridge, A, B, controls",
    "images_for_language/cutouts":
        "a picture imagined with cutouts and without: what the CLIP that guided says, and another one",
    "images_for_language/imagined-sentences":
        "a language model with few examples, alone and beside real, imagined and shuffled pictures",
    "text_for_vision/clip-mini":
        "the miniature CLIPs of chapter 4, with a ResNet or a Vision Transformer, trained and judged",
    "text_for_vision/clip-efficiency":
        "write the caption, predict its words, or recognise it: zero-shot accuracy against images seen",
    "text_for_vision/contrastive-ablation":
        "fewer negatives, fixed temperatures, smoothed targets and other losses at equal steps",
    "text_for_vision/robustness":
        "labels against captions, narrow against broad pictures: accuracy beyond the line under shift",
    "text_for_vision/noise-scale": "many noisy captions against few clean ones, and label smoothing",
    "text_for_vision/text-filters":
        "training on junk texts, on what ALIGN's rules leave of them, and on captions alone",
    "text_for_vision/dynamic-head":
        "find things in drawn scenes with CoSwin and a Dynamic Head, and the same without the head",
    "text_for_vision/unicl":
        "several wordings of one label: UniCL against CLIP; prompts first, then captions alone",
    "text_for_vision/caption-bias":
        "a planted correlation between clothes, a role and a pose: answers, thresholds, remedies",
    "images_for_language/grounding":
        "nouns with the same text and different pictures: told apart by vectors with and without pictures",
    "both_modalities/vilbert":
        "ViLBERT on regions of drawn scenes: co-attention, own values, one direction, one stream, no start",
    "both_modalities/collapse":
        "data2vec with its safeguards removed one at a time: spread and rank of targets, what a probe reads",
    "both_modalities/visual-prefix":
        "cells of a picture as a prefix of text: a matrix, two layers, the language model trained, controls",
    "both_modalities/data2vec-vision":
        "a small data2vec of pictures beside pixels as targets, one block, no context, no training: probes",
    "both_modalities/flamingo":
        "the miniature Flamingo without gates, pages or a frozen language model: captions, answers, shots",
    "both_modalities/scene-lm":
        "the miniature's language model: what is said of scenes, and words that were bound before",
    "both_modalities/walker":
        "the miniature walker, in known and new houses; without words, pictures, frozen sight, many houses",
    "both_modalities/affect":
        "a feeling in picture, text and voice that none tells alone: modalities and ways to join them",
    "both_modalities/both-modalities":
        "the models of the chapter on all tasks that each can do, beside baselines that do not look",
}


def environment() -> dict[str, Any]:
    """Versions, device, threads and date of this run, to stand beside its results."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "torchvision": torchvision.__version__, "numpy": np.__version__,
                     "mmlearn": mmlearn.__version__},
        "device": device, "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def results(name: str) -> dict[str, Any]:
    """The committed results of a study. Raises ``FileNotFoundError`` if there are none."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"there are no results {path}; run `python -m mmlearn.experiments {name}`")
    return json.loads(path.read_text(encoding="utf-8"))


def write_results(path: Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON in one step."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def seeds(count: int) -> list[int]:
    """The seeds of a study: 0, 1, … count-1. Raises ``ValueError`` for less than one."""
    if count < 1:
        raise ValueError(f"--seeds is {count}; a study needs at least 1")
    return list(range(count))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one study and write its results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mmlearn.experiments",
                                     description="Longer studies, recorded.")
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    modules = {}
    for place, about in EXPERIMENTS.items():
        name = place.split("/")[1]
        modules[name] = importlib.import_module(
            f"mmlearn.experiments.{place.replace('/', '.').replace('-', '_')}"
        )
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        sub.add_argument("--out", type=Path, default=RESULTS / f"{name}.json",
                         help="where results are written")
        modules[name].add(sub)
    args = parser.parse_args(argv)
    start = time.time()
    try:
        checkpoint = getattr(args, "checkpoint", None)
        if checkpoint is not None and args.out.resolve() == checkpoint.with_suffix(".json").resolve():
            raise ValueError(f"--out {args.out} is where the description of --checkpoint goes; give another "
                             f"name")
        measured = modules[args.name].run(args)
        write_results(args.out, {"recipe": args.name, **measured, **environment(),
                                 "seconds": round(time.time() - start, 1)})
    except (ValueError, OSError) as error:
        print(f"mmlearn.experiments {args.name}: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0
