"""How fast and how large: a step of masked language modelling of BERT base, 8 texts of 64 tokens.

    python benchmarks/bert.py --cpu-time --threads 1        # processor time, for a busy machine
    python benchmarks/bert.py --memory                      # by how much a step makes a process grow
    python benchmarks/bert.py --task pre-training           # with pairs of sentences as well

"mmlearn" is ``BERTForPreTraining``, which scores the chosen 15 % of the positions alone; "transformers" is
its ``BertForMaskedLM`` (or ``BertForPreTraining``) with fused attention, which scores all positions and then
leaves 85 % out of the loss. Both have the same weights and see the same texts, without dropout (with it
PyTorch's attention on a CPU is not fused, in either). A step is the loss, the gradients, and AdamW, fused.

Loss and gradients are compared before anything is timed. The last ratio is mmlearn over transformers: below 1
mmlearn is faster; the goal is 0.9.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace

import measuring
import torch
from torch import Tensor, nn

from mmlearn.images_for_language.bert import IGNORED, BERTForPreTraining, mask_tokens, pretraining_loss
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import blank
from mmlearn.pretrained.bert import joined, present, untied

TASKS = {"words": ("mmlearn", "transformers"), "pre-training": ("mmlearn", "transformers")}
GOAL = 0.9
CLS, SEP, MASK = 101, 102, 103          # of the uncased vocabulary, whose words stand behind them


def config(task: str, args: argparse.Namespace) -> BERTConfig:
    return replace(getattr(BERTConfig, args.size)(), dropout=0.0, pooler=task == "pre-training")


def peer(task: str, args: argparse.Namespace) -> nn.Module:
    """transformers' model of this size."""
    from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

    of = config(task, args)
    torch.manual_seed(0)
    kind = BertForPreTraining if task == "pre-training" else BertForMaskedLM
    return kind(BertConfig(vocab_size=of.vocab, hidden_size=of.width, num_hidden_layers=of.layers,
                           num_attention_heads=of.heads, intermediate_size=of.ff, hidden_dropout_prob=0.0,
                           attention_probs_dropout_prob=0.0, attn_implementation="sdpa"))


def ours(task: str, args: argparse.Namespace, theirs: nn.Module | None = None) -> BERTForPreTraining:
    """Ours, with the weights of theirs where they are compared."""
    if theirs is None:
        torch.manual_seed(0)
        return BERTForPreTraining(config(task, args))
    with blank():
        model = BERTForPreTraining(config(task, args))
    model.load_state_dict(joined(model, untied(present(theirs.state_dict()), "transformers")), assign=True)
    return model


def texts(vocab: int, args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Masked texts, labels, and which pairs follow each other."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(MASK + 1, vocab, (args.batch, args.length), generator=generator)
    ids[:, 0], ids[:, -1] = CLS, SEP
    inputs, labels = mask_tokens(ids, (0, CLS, SEP), vocab, MASK, generator)
    following = torch.arange(args.batch) % 2
    return inputs.to(args.device), labels.to(args.device), following.to(args.device)


def prepared(model: nn.Module, args: argparse.Namespace, train: bool = True) -> Callable[[], Tensor]:
    """A function that does a step of the model and returns its loss."""
    vocab = model.config.vocab if isinstance(model, BERTForPreTraining) else model.config.vocab_size
    inputs, labels, following = texts(vocab, args)
    model.to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if train else None
    asked, real = labels != IGNORED, torch.ones_like(inputs, dtype=torch.bool)

    def step() -> Tensor:
        if isinstance(model, BERTForPreTraining):
            scores = model(inputs, asked, real)
            loss, _ = pretraining_loss(scores, labels[asked], following)
        else:
            more = {} if "MaskedLM" in type(model).__name__ else {"next_sentence_label": following}
            loss = model(input_ids=inputs, attention_mask=real.long(), labels=labels, **more).loss
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()
    return step


def compare(mine: BERTForPreTraining, theirs: nn.Module, args: argparse.Namespace) -> None:
    """Refuse models whose losses or gradients differ."""
    losses = [float(prepared(model, args, train=False)()) for model in (mine, theirs)]
    assert abs(losses[0] - losses[1]) < 1e-4, losses
    gradients = [mine.bert.embed.words.weight.grad, theirs.bert.embeddings.word_embeddings.weight.grad]
    gap = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert float(gap) < 1e-3, float(gap)
    for model in (mine, theirs):
        model.zero_grad(set_to_none=True)


def ways(task: str, args: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """Both, with the same weights, compared."""
    theirs = peer(task, args)
    mine = ours(task, args, theirs)
    compare(mine, theirs, args)
    return {"mmlearn": prepared(mine, args), "transformers": prepared(theirs, args)}


def one_memory(task: str, way: str, args: argparse.Namespace) -> int:
    """By how many bytes a step makes this process, or its share of the device, grow."""
    step = prepared(ours(task, args) if way == "mmlearn" else peer(task, args), args, train=False)
    if args.device == "cpu":
        measuring.forget_peak()
    return measuring.growth(step, args.device)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=tuple(TASKS), default=["words"])
    parser.add_argument("--size", choices=("small", "base", "large"), default="base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    measuring.add_common(parser, repeats=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.task[0], args.child, args))
        return
    about = f"BERT {args.size}, {args.batch} x {args.length} tokens, {measuring.setting(args)}"
    if args.memory:
        names = ("size", "batch", "length", "threads", "device")
        found = measuring.growth_of({task: TASKS[task] for task in args.task}, __file__, args, names)
        what, shown = "growth by the loss and the gradients", measuring.megabytes
    else:
        found = measuring.seconds_of(args.task, lambda task: ways(task, args), args)
        what, shown = f"{measuring.unit(args)}, median of {args.repeats}", measuring.seconds
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(found, (14, 14), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f}, goal {GOAL})")


if __name__ == "__main__":
    main()
