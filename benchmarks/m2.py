"""How fast is M2?  ``python benchmarks/m2.py`` times a training step and beam-5 decoding at the paper's size.

Peers, in the same process and in turns:
- "naive": the same weights without a cache and without fused attention: each step of the search reads all
  beams from their beginning, projects the image again for each beam and each encoder layer, and forms every
  softmax by hand.
- "transformers": ``BartForConditionalGeneration`` of the same width, heads, layers, feed-forward width and
  vocabulary (3 layers, 512, 8, 2048, 10 201), with its own fused attention and cache. It is a plain
  Transformer, so it does less work than M2; the fair row is our plain Transformer. Its encoder gets projected
  regions.

Every search runs all its steps (no <eos>). Medians of ``--repeats`` turns; a ratio above 1 means that ours is
faster.
"""

import json
import math
from collections.abc import Callable

import measuring
import torch
from torch import Tensor

from mmlearn.generate import beam
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.nn.attention import MultiHeadAttention


def naive_attention(layer: MultiHeadAttention, x: Tensor, source: Tensor, mask: Tensor | None,
                    slots: bool) -> Tensor:
    """One attention layer by the formula: four multiplications, softmax by hand."""
    d = layer.width
    q = layer.split(x @ layer.in_weight[:d].T + layer.in_bias[:d])
    k = layer.split(source @ layer.in_weight[d : 2 * d].T + layer.in_bias[d : 2 * d])
    v = layer.split(source @ layer.in_weight[2 * d :].T + layer.in_bias[2 * d :])
    if slots:
        more_k, more_v = layer.memory(len(x))
        k, v = torch.cat([k, more_k], dim=2), torch.cat([v, more_v], dim=2)
    scores = q @ k.transpose(-1, -2) / math.sqrt(d / layer.heads)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return layer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def naive_encode(model: M2Transformer, features: Tensor) -> list[Tensor]:
    """The outputs of the encoder's layers."""
    x, levels = model.project(features), []
    for layer in model.encoder:
        slots = model.config.memory > 0
        x = layer.attention_norm(x + layer.dropout(naive_attention(layer.attention, x, x, None, slots)))
        x = layer.feed_forward_norm(x + layer.dropout(layer.feed_forward(x)))
        levels.append(x)
    return levels


def naive_decode(model: M2Transformer, tokens: Tensor, levels: list[Tensor]) -> Tensor:
    """All logits of all tokens; one encoder layer after the other."""
    x, t = model.embed(tokens), tokens.shape[1]
    past = torch.ones(t, t, dtype=torch.bool).tril()
    for layer in model.decoder:
        Y = layer.self_norm(x + layer.dropout(naive_attention(layer.self_attention, x, x, past, False)))
        Z = torch.zeros_like(Y)
        for i, level in enumerate(levels):
            read = naive_attention(layer.cross_attention, Y, level, None, False)
            E = layer.cross_norm(Y + layer.dropout(read))
            gate = torch.sigmoid(torch.cat([Y, E], -1) @ layer.gate_weight[i].T + layer.gate_bias[i])
            Z = Z + gate * E
        Z = Z / math.sqrt(len(levels))
        x = layer.feed_forward_norm(Z + layer.dropout(layer.feed_forward(Z)))
    return model.output(x)


@torch.no_grad()
def naive_beam(model: M2Transformer, features: Tensor, k: int, steps: int) -> Tensor:
    """Beam search that reads everything again at each step; sums of log-probabilities (b, k)."""
    b = len(features)
    levels = [level.repeat_interleave(k, dim=0) for level in naive_encode(model, features)]
    tokens = torch.full((b, k, 1), 2)
    total = torch.full((b, k), -math.inf)
    total[:, 0] = 0.0
    for _ in range(steps):
        log_probs = naive_decode(model, tokens.flatten(0, 1), levels)[:, -1].log_softmax(-1)
        totals = total[..., None] + log_probs.unflatten(0, (b, k))
        total, best = totals.flatten(1).topk(k)
        parent, word = best // log_probs.shape[-1], best % log_probs.shape[-1]
        tokens = torch.cat([tokens.gather(1, parent[..., None].expand_as(tokens)), word[..., None]], dim=-1)
    return total


def bart(config: M2Config, steps: int) -> torch.nn.Module:
    """The peer of the same size; its positions are learned, its embeddings not tied."""
    from transformers import BartConfig, BartForConditionalGeneration

    return BartForConditionalGeneration(BartConfig(
        vocab_size=config.vocab, d_model=config.width, encoder_layers=config.layers,
        decoder_layers=config.layers, encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads, encoder_ffn_dim=config.ff, decoder_ffn_dim=config.ff,
        max_position_embeddings=64, dropout=config.dropout, activation_function="relu", attention_dropout=0.0,
        activation_dropout=config.dropout, tie_word_embeddings=False, pad_token_id=1, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=2, forced_eos_token_id=None, attn_implementation="sdpa",
    ))


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--images", type=int, default=4, help="images a batch (captions a batch in training)")
    parser.add_argument("--regions", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20, help="words of a caption")
    measuring.add_common(parser, repeats=3, device=False, memory=False)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = M2Config.paper()
    models = {"M2": M2Transformer(config), "plain": M2Transformer(M2Config.transformer_3())}
    peer, project = bart(config, args.steps), torch.nn.Linear(config.features, config.width)
    features = torch.randn(args.images, args.regions, config.features).abs()
    tokens = torch.randint(4, config.vocab, (args.images, args.steps + 1))

    def step(parameters: list[torch.nn.Parameter], logits: Callable[[], Tensor]) -> Callable[[], object]:
        optimizer = torch.optim.Adam(parameters, lr=1e-4)

        def run() -> None:
            optimizer.zero_grad()
            caption_cross_entropy(logits(), tokens[:, 1:]).backward()
            optimizer.step()
        return run

    m2, plain = models["M2"], models["plain"]
    training = measuring.in_turns(
        {
            "M2": step([*m2.parameters()], lambda: m2(features, tokens[:, :-1])),
            "M2, naive": step(
                [*m2.parameters()], lambda: naive_decode(m2, tokens[:, :-1], naive_encode(m2, features))
            ),
            "plain": step([*plain.parameters()], lambda: plain(features, tokens[:, :-1])),
            "transformers": step(
                [*peer.parameters(), *project.parameters()],
                lambda: peer(inputs_embeds=project(features), decoder_input_ids=tokens[:, :-1]).logits,
            ),
        },
        args,
    )

    for model in (m2, plain, peer):
        model.eval()
    with torch.no_grad():
        ours = beam(m2, m2.encode(features), k=5, eos=-1, max_len=args.steps)[1].sum(-1)
        torch.testing.assert_close(ours, naive_beam(m2, features, 5, args.steps), atol=1e-3, rtol=1e-4)
    decoding = measuring.in_turns(
        {
            "M2": torch.no_grad()(lambda: beam(m2, m2.encode(features), k=5, eos=-1, max_len=args.steps)),
            "M2, naive": lambda: naive_beam(m2, features, 5, args.steps),
            "plain": torch.no_grad()(
                lambda: beam(plain, plain.encode(features), k=5, eos=-1, max_len=args.steps)
            ),
            "transformers": torch.no_grad()(
                lambda: peer.generate(
                    inputs_embeds=project(features),
                    num_beams=5,
                    do_sample=False,
                    max_new_tokens=args.steps,
                    min_new_tokens=args.steps,
                    length_penalty=0.0,
                )
            ),
        },
        args,
    )

    ratios = {
        task: {"M2 against naive": times["M2, naive"] / times["M2"],
               "plain against transformers": times["transformers"] / times["plain"],
               "M2 against transformers": times["transformers"] / times["M2"]}
        for task, times in (("training step", training), ("beam 5", decoding))
    }
    if args.json:
        print(json.dumps({"seconds": {"training step": training, "beam 5": decoding}, "ratios": ratios},
                         indent=1))
        return
    print(f"{args.images} images, {args.regions} regions, {args.steps} words, {args.threads} threads, "
          f"{measuring.unit(args)}, torch {torch.__version__}")
    for task, times in (("training step", training), ("beam 5", decoding)):
        print(f"\n{task}")
        for name, value in times.items():
            print(f"  {name:<28} {value:8.3f} s")
        for name, value in ratios[task].items():
            print(f"  {name:<28} {value:8.2f} x")


if __name__ == "__main__":
    main()
