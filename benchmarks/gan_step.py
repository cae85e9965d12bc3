"""How fast and how large: a training step of a GAN that draws from text, of the discriminators and then of
the generator.

    python benchmarks/gan_step.py                               # both miniatures, 64 pixels, a batch of 32
    python benchmarks/gan_step.py --system attngan --size cub --batch 4
    python benchmarks/gan_step.py --memory                      # by how much one step makes a process grow

Three ways to make the same step with the same networks, which take turns:

- "mmlearn": the game of ``mmlearn.text2image.training``, moved as ``fit`` moves it: features of real pictures
  serve right and wrong sentences, all captions are compared with all pictures at once, only the weights of
  the side that moves get a gradient, channels come last in memory, Adam is fused.
- "as released": in the order of the authors' codes, written out by hand: features of real pictures are shared
  there, too, but the words of one caption after the other are compared with the pictures, the generator's
  move computes gradients of the discriminators' weights and throws them away, and Adam is plain.
- "term by term": as one would write it down from the formulas: every term of a loss calls the discriminator
  for itself, DF-GAN's penalty has a pass of its own, and the rest is as released.

The losses of all three are compared over two steps before they are timed. A ratio above 1 means that mmlearn
is faster. The text encoder is frozen and its words are computed in each step.
"""

import argparse
import copy
import json
from collections.abc import Callable

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.data.pairs import PairBatch
from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.blocks import mean_kl, pyramid
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.text2image.pipeline import encode
from mmlearn.text2image.training import attngan_game, dfgan_game

SYSTEMS, SIZES = ("dfgan", "attngan"), ("mini", "cub")
WAYS = ("mmlearn", "as released", "term by term")
Losses = list[Tensor]


def build(system: str, size: str) -> tuple[nn.Module, DAMSM]:
    """The GAN and the frozen encoders of its sentences, at random weights."""
    torch.manual_seed(0)
    damsm = DAMSM(DAMSMConfig.mini() if size == "mini" else DAMSMConfig.cub()).requires_grad_(False).eval()
    if system == "dfgan":
        return DFGAN(DFGANConfig.mini() if size == "mini" else DFGANConfig.cub()), damsm
    return AttnGAN(AttnGANConfig.mini() if size == "mini" else AttnGANConfig.cub()), damsm


def pairs(model: nn.Module, damsm: DAMSM, batch: int, words: int) -> PairBatch:
    """Pictures of noise with captions of two words or more."""
    torch.manual_seed(1)
    config = model.config
    side = config.size if isinstance(model, DFGAN) else config.sizes[-1]                # type: ignore[union-attr]
    tokens = torch.randint(2, 150, (batch, words))
    for i in range(batch):
        tokens[i, words - i % (words - 1):] = damsm.config.pad
    weight = next(model.parameters())
    images = torch.rand(batch, 3, side, side).to(weight) * 2 - 1
    which = torch.arange(batch)
    return PairBatch(images, tokens.to(weight.device), which)


# ------------------------------------------------------------------------------------------- by hand: DF-GAN

def hinge(real: Tensor, fake: Tensor, wrong: Tensor) -> Tensor:
    """Logits of real pairs above 1, of the two other kinds below -1."""
    return F.relu(1 - real).mean() + (F.relu(1 + fake).mean() + F.relu(1 + wrong).mean()) / 2


def penalty(score: Tensor, x: Tensor, e: Tensor) -> Tensor:
    """Twice the sixth power of the joint norm of the gradient."""
    by_image, by_text = torch.autograd.grad(score.sum(), (x, e), create_graph=True)
    return 2 * torch.cat([by_image.flatten(1), by_text], dim=1).square().sum(dim=1).pow(3).mean()


def dfgan_by_hand(model: DFGAN, damsm: DAMSM, batch: PairBatch, adams: list, shared: bool) -> Losses:
    """A step of each side; ``shared``: features of real pictures serve both sentences and the penalty."""
    G, D = model.generator, model.discriminator
    sentence = encode(damsm.text, batch.tokens).sentence
    drawn = G(model.noise(len(sentence)), sentence)
    x, e = batch.images.clone().requires_grad_(), sentence.clone().requires_grad_()
    if shared:
        features = D.features(x)
        real, wrong = D.output(features, e), D.output(features.roll(-1, 0), sentence)
        extra = penalty(real, x, e)
    else:
        real, wrong = D(batch.images, sentence), D(batch.images, sentence.roll(1, 0))
        extra = penalty(D(x, e), x, e)
    loss_d = hinge(real, D(drawn.detach(), sentence), wrong) + extra
    return [move(adams[0], loss_d), move(adams[1], -D(drawn, sentence).mean())]


def move(adam: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """A step down a loss, with gradients for all weights that it depends on."""
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()
    return loss.detach()


# ------------------------------------------------------------------------------------------ by hand: AttnGAN

def says(logits: Tensor, real: bool) -> Tensor:
    """Cross-entropy with one label for all."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def both_ways(R: Tensor) -> Tensor:
    """Cross-entropy of rows and of columns: row i belongs to column i."""
    labels = torch.arange(len(R), device=R.device)
    return F.cross_entropy(R, labels) + F.cross_entropy(R.mT, labels)


def words_by_loop(words: Tensor, regions: Tensor, mask: Tensor, config: DAMSMConfig) -> Tensor:
    """The two losses of words, one caption after the other."""
    columns = []
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        caption = words[i, :length].expand(len(regions), -1, -1)                                 # b t d
        share = torch.bmm(caption, regions.mT).softmax(dim=1)
        context = torch.bmm((config.gamma1 * share).softmax(dim=2), regions)
        cosine = F.cosine_similarity(context, caption, dim=2)
        columns.append((config.gamma2 * cosine).exp().sum(dim=1).log())
    return both_ways(config.gamma3 * torch.stack(columns, dim=1))


def attngan_by_hand(model: AttnGAN, damsm: DAMSM, batch: PairBatch, adams: list, shared: bool) -> Losses:
    """A step of each side; ``shared``: the heads of a discriminator read the same features."""
    words, sentence = damsm.text(batch.tokens)
    mask = damsm.text.mask(batch.tokens)
    noise = torch.randn(len(sentence), model.config.noise, device=sentence.device).to(sentence)
    drawn = model(noise, sentence, words, mask)
    total = sentence.new_zeros(())
    for critic, x_hat in zip(model.critics, drawn.images):
        x, x_hat = pyramid(batch.images, [x_hat.shape[-1]])[0], x_hat.detach()
        real, fake = critic.features(x), critic.features(x_hat)

        def again(kept: Tensor, image: Tensor, critic=critic) -> Tensor:
            return kept if shared else critic.features(image)

        wrong = critic.conditional(again(real, x)[:-1], sentence[1:])
        total = total + (says(critic.unconditional(real), True)
                         + says(critic.conditional(again(real, x), sentence), True)) / 2
        total = total + (says(critic.unconditional(fake), False) + says(wrong, False)
                         + says(critic.conditional(again(fake, x_hat), sentence), False)) / 3
    losses = [move(adams[0], total)]
    total = mean_kl(drawn.mu, drawn.log_var)
    for critic, x_hat in zip(model.critics, drawn.images):
        features = critic.features(x_hat)
        total = total + says(critic.unconditional(features), True)
        features = features if shared else critic.features(x_hat)
        total = total + says(critic.conditional(features, sentence), True)
    regions, code = damsm.image(drawn.images[-1])
    match = words_by_loop(words, regions, mask, damsm.config)
    cosines = F.cosine_similarity(code[:, None], sentence[None], dim=2)
    match = match + both_ways(damsm.config.gamma3 * cosines)
    return [*losses, move(adams[1], total + model.config.damsm_weight * match)]


# ----------------------------------------------------------------------------------------------------- a step

def step_of(way: str, model: nn.Module, damsm: DAMSM, batch: PairBatch) -> Callable[[], Losses]:
    """A function that trains a model by one step of each side and returns both losses."""
    system = "dfgan" if isinstance(model, DFGAN) else "attngan"
    critics = model.discriminator if isinstance(model, DFGAN) else model.critics
    rates = {"lr": 2e-4, "betas": (0.5, 0.999)}
    if way == "mmlearn":
        model.to(memory_format=torch.channels_last)                             # type: ignore[call-overload]
        images = batch.images.to(memory_format=torch.channels_last)
        adam = torch.optim.Adam(model.parameters(), fused=True, **rates)        # type: ignore[arg-type]
        game = (dfgan_game(damsm.text) if system == "dfgan"
                else attngan_game(damsm, torch.arange(len(images))))

        def ours() -> Losses:
            losses = []
            for player, loss, _ in game(model, batch._replace(images=images)):
                loss.backward(inputs=[*getattr(model, player).parameters()])
                adam.step()
                adam.zero_grad(set_to_none=True)
                losses.append(loss.detach())
            return losses
        return ours
    adams = [torch.optim.Adam(part.parameters(), **rates)                       # type: ignore[arg-type]
             for part in (critics, model.generator)]
    by_hand = dfgan_by_hand if system == "dfgan" else attngan_by_hand
    return lambda: by_hand(model, damsm, batch, adams, way == "as released")    # type: ignore[arg-type]


def prepared(system: str, args: argparse.Namespace, ways: tuple[str, ...] = WAYS) -> dict[str, Callable]:
    """The ways to make a step, each with a copy of the same networks."""
    model, damsm = build(system, args.size)
    model, damsm = model.to(args.device), damsm.to(args.device)
    batch = pairs(model, damsm, args.batch, args.words)
    return {way: step_of(way, copy.deepcopy(model), damsm, batch) for way in ways}


def compare(steps: dict[str, Callable], tolerance: float = 2e-3) -> None:
    """Refuse ways whose losses differ in the first two steps."""
    found: dict[str, Losses] = {}
    for way, step in steps.items():
        torch.manual_seed(2)
        found[way] = [loss for _ in range(2) for loss in step()]
    for way in steps:
        torch.testing.assert_close(found[way], found["mmlearn"], rtol=tolerance, atol=tolerance)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--system", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--size", choices=SIZES, default="mini", help="a miniature, or the paper's for birds")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--words", type=int, default=12, help="of the longest caption")
    measuring.add_common(parser, repeats=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        system, way = args.system[0], args.child
        print(measuring.growth(prepared(system, args, (way,))[way], args.device))
        return
    about = (f"{args.size}, batch {args.batch}, captions of at most {args.words} words, "
             f"{measuring.setting(args)}")
    if args.memory:
        names = ("size", "batch", "words", "threads", "device")
        grew = measuring.growth_of(dict.fromkeys(args.system, WAYS), __file__, args, names, "system")
        if args.json:
            print(json.dumps(grew, indent=1))
            return
        print(f"{about}; growth by one step")
        measuring.print_rows(grew, (8, 14), measuring.megabytes)
        return

    def compared(system: str) -> dict[str, Callable]:
        steps = prepared(system, args)
        compare(steps)
        return steps

    seconds = measuring.seconds_of(args.system, compared, args)
    ratios = {system: {way: value / of["mmlearn"] for way, value in of.items() if way != "mmlearn"}
              for system, of in seconds.items()}
    if args.json:
        print(json.dumps({"seconds": seconds, "ratios": ratios}, indent=1))
        return
    print(f"{about}, {measuring.unit(args)}, median of {args.repeats}")
    measuring.print_rows(seconds, (8, 14), measuring.seconds)


if __name__ == "__main__":
    main()
