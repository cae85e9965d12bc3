r"""VQGAN+CLIP: a picture is imagined from a sentence, and nothing is trained but the picture.

Paper: K. Crowson, S. Biderman, D. Kornis, D. Stander, E. Hallahan, L. Castricato and E. Raff (2022),
*VQGAN-CLIP: Open Domain Image Generation and Editing with Natural Language Guidance*, ECCV, arXiv:2204.08583.
Survey: 3.6, where it imagines for iACE.
Differs from the paper: the recipe is that of the released code as iACE runs it
(github.com/YujieLu10/IACE-NLU, a copy of nerdyrodent/VQGAN-CLIP): Adam at 0.1, 32 cuts, no decay. The rates
and steps of the paper's own experiments could not be checked. The code counts from 0 to 500 and so takes 501
steps; here it is 500. Sentences of a batch start at the same codes and get the same cuts, so that a picture
depends on its sentence and the seed alone.

Latents are grids (b, n, h, w) of vectors; b sentences, e numbers of CLIP's embeddings. Pictures that come out
are in [-1, 1], as all models of chapter 2 draw them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.data.images import standardise
from mmlearn.images_for_language.cutouts import CutoutConfig, Cuts, cut, draw_cuts, pooled
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import blank, eval_mode
from mmlearn.text2image.vector_quantisation import nearest_codes, straight_through, to_rows
from mmlearn.text2image.vit_vqgan import ViTVQGAN, ViTVQGANConfig
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig
from mmlearn.text2image.vqvae import VQVAE, VQVAEConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig

FACTOR = 4              # how many times a VQ-VAE's grid is smaller


@dataclass(frozen=True)
class VQGANCLIPConfig:
    vqgan: VQGANConfig | VQVAEConfig | ViTVQGANConfig = field(default_factory=VQGANConfig.imagenet_f16_16384)
    clip: CLIPConfig = field(default_factory=CLIPConfig.vit_b32)
    cutouts: CutoutConfig = field(default_factory=CutoutConfig)
    size: int = 512             # pixels a side of the picture: a multiple of the grid's factor
    steps: int = 500            # of Adam
    lr: float | int = 0.1
    decay: float | int = 0.0    # weight of the latents' squares in the first step (eq:imagine-decay)

    def __post_init__(self) -> None:
        check(self, steps=(0, 1_000_000), lr=(0, 1e3), decay=(0, 1e6))
        if self.size % self.factor:
            raise ValueError(f"size is {self.size} pixels, and a code stands for {self.factor} a side; use a "
                             f"multiple of {self.factor}")
        if isinstance(self.vqgan, ViTVQGANConfig) and self.size != self.vqgan.size:
            raise ValueError(f"size is {self.size} pixels, and this transformer draws {self.vqgan.size}; use "
                             f"its size")

    @property
    def factor(self) -> int:
        """f, pixels a side for which one code stands."""
        if isinstance(self.vqgan, ViTVQGANConfig):
            return self.vqgan.patch
        return self.vqgan.factor if isinstance(self.vqgan, VQGANConfig) else FACTOR

    @classmethod
    def paper(cls) -> "VQGANCLIPConfig":
        """The released code on a GPU: 512 pixels, VQGAN with 16,384 codes (76,073,859 parameters) and CLIP
        ViT-B/32 (151,277,313)."""
        return cls()

    @classmethod
    def small(cls) -> "VQGANCLIPConfig":
        """The released code where it finds no GPU: 256 pixels."""
        return cls(size=256)

    @classmethod
    def mini(cls, vocab: int = 400) -> "VQGANCLIPConfig":
        """The miniatures of the book: 64 pixels as 8 x 8 codes, 60 steps with 8 cuts."""
        return cls(VQGANConfig.mini(8), CLIPConfig.mini(vocab), CutoutConfig.mini(), 64, 60)


# -------------------------------------------------------------------------------------------------- equations

def chord(
    u: Float[Tensor, "*#b e"], v: Float[Tensor, "*#b e"]
) -> Float[Tensor, "*b"]:
    r"""eq:imagine-chord: $\lVert u-v\rVert=\sqrt{2\,(1-u^\top v)}$ for
    vectors of length 1. Without the root, or for other lengths, the sides
    are not equal."""
    return (u - v).norm(dim=-1)


def spherical_loss(
    u: Float[Tensor, "*#b e"], v: Float[Tensor, "*#b e"]
) -> Float[Tensor, "*b"]:
    r"""eq:imagine-angle: $\ell(u,v)=2\arcsin^2\frac{\lVert\hat u-\hat v
    \rVert}2=\frac{\theta^2}2$, $\hat u=u/\lVert u\rVert$: half the squared
    angle, in radians, between the two directions."""
    half = chord(F.normalize(u, dim=-1), F.normalize(v, dim=-1)) / 2
    return 2 * half.clamp(max=1).arcsin().square()


class PulledClamp(torch.autograd.Function):
    """``clamped``: values cut to a range, and the gradient that pulls back
    into it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, low: float | int, high: float | int
    ) -> Tensor:
        y = x.clamp(low, high)
        ctx.save_for_backward(x - y)
        return y

    @staticmethod
    def backward(                                       # type: ignore[override]
        ctx: Any, g: Tensor
    ) -> tuple[Tensor, None, None]:
        beyond, = ctx.saved_tensors
        return g * (g * beyond >= 0), None, None


def clamped(
    x: Float[Tensor, "*n"], low: float | int = 0, high: float | int = 1
) -> Float[Tensor, "*n"]:
    r"""eq:imagine-clamp: $y=\min(\max(x,0),1)$, $\frac{\partial L}{\partial
    x}=\frac{\partial L}{\partial y}\,[\,\frac{\partial L}{\partial y}
    (x-y)\ge0\,]$: a pixel beyond the range is moved only if a step against
    the gradient brings it back."""
    return PulledClamp.apply(x, low, high)


def within_codes(
    z: Float[Tensor, "b n h w"], codebook: Float[Tensor, "k n"]
) -> Float[Tensor, "b n h w"]:
    r"""eq:imagine-range: $z_j\leftarrow\min(\max(z_j,\min_ie_{ij}),
    \max_ie_{ij})$, each channel within what the codebook has there."""
    low, high = codebook.amin(dim=0), codebook.amax(dim=0)
    return z.clamp(low[:, None, None], high[:, None, None])


def imagine_loss(
    u: Float[Tensor, "k b e"], goals: Float[Tensor, "b g e"],
    weights: Float[Tensor, " g"], cuts: int,
) -> Float[Tensor, " b"]:
    r"""eq:imagine-loss: $L=\sum_gw_g\frac1n\sum_{i=1}^n\ell(c(x_i),t_g)$
    over n cuts of a picture, usually with one sentence, of weight 1; a
    negative weight repels. Of the n cuts, k may be given at a time."""
    angles = spherical_loss(u[:, :, None], goals)               # k b g
    return (angles @ weights).sum(dim=0) / cuts


def latent_decay(
    z: Float[Tensor, "b n h w"], step: int, weight: float | int
) -> Float[Tensor, " b"]:
    r"""eq:imagine-decay: $\frac{\rho}{2\,(2s+1)}\,\overline{z^2}$ in step
    s = 0, 1, …: a pull towards 0 that fades."""
    return weight / (2 * (2 * step + 1)) * z.square().flatten(1).mean(dim=1)


# ------------------------------------------------------------------------------------------------ first stage

class Latents(NamedTuple):
    """What is optimised of a model with codes: its ``books`` of codes (K, n_i), whose vectors stand one
    behind the other at a place, what draws (b, n, h, w) in [-1, 1], and the ``factor`` f."""

    books: tuple[Tensor, ...]
    draw: Callable[[Tensor], Tensor]
    factor: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of a code of each book."""
        return tuple(book.shape[1] for book in self.books)

    def nearest(self, z: Float[Tensor, "b n h w"]) -> Int[Tensor, "b g h w"]:
        """The nearest codes, a map for each book."""
        found = [nearest_codes(to_rows(part.detach()), book).view(len(z), *z.shape[2:])
                 for part, book in zip(z.split(self.widths, dim=1), self.books)]
        return torch.stack(found, dim=1)

    def look_up(self, codes: Int[Tensor, "b g h w"]) -> Float[Tensor, "b n h w"]:
        """The vectors of codes."""
        return torch.cat([F.embedding(codes[:, i], book).movedim(-1, 1)
                          for i, book in enumerate(self.books)], dim=1)

    def within(self, z: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        """eq:imagine-range of every book."""
        return torch.cat([within_codes(part, book)
                          for part, book in zip(z.split(self.widths, dim=1), self.books)], dim=1)


def latents_of(model: nn.Module) -> Latents:
    """The latents of a VQGAN, also of the Gumbel kind, whose codes are then those nearest to z; of a VQ-VAE,
    of whose 256 likelihoods the mean is drawn; of a ViT-VQGAN. Raises ``ValueError`` for other models."""
    if isinstance(model, VQGAN):
        book = model.codebook
        return Latents((getattr(book, "vectors", book.weight).detach(),), model.draw, model.config.factor)
    if isinstance(model, VQVAE):
        books = tuple(book.vectors.detach() for book in model.codebooks)  # type: ignore[operator, union-attr]
        return Latents(books, lambda z: mean_pixels(model.output(z), model.config.levels), FACTOR)
    if isinstance(model, ViTVQGAN):
        def draw(z: Tensor) -> Tensor:
            return model.draw(model.codebook.up(z.movedim(1, -1)).movedim(-1, 1))

        return Latents((model.codebook.codebook.vectors.detach(),), draw, model.config.patch)
    raise ValueError(f"{type(model).__name__} has no codes to imagine with; give a VQGAN, a VQVAE or a "
                     f"ViTVQGAN")


def mean_pixels(output: Tensor, levels: int) -> Float[Tensor, "b 3 y x"]:
    """Pixels as they are, or of logits (b, 3, levels, y, x) their mean: the likeliest has no gradient."""
    if not levels:
        return output
    values = torch.arange(levels, device=output.device).to(output)
    values = (values + 0.5) / levels * 2 - 1
    return torch.einsum("bcvyx,v->bcyx", output.softmax(dim=2), values)


def drawn(
    latents: Latents, z: Float[Tensor, "b n h w"]
) -> Float[Tensor, "b 3 y x"]:
    """Latents -> pictures in [0, 1], with the gradients of
    eq:vq-straight-through and eq:imagine-clamp."""
    z_q = straight_through(z, latents.look_up(latents.nearest(z)))
    return clamped((latents.draw(z_q) + 1) / 2)


@torch.no_grad()
def pictures_of(latents: Latents, z: Float[Tensor, "b n h w"]) -> Float[Tensor, "b 3 y x"]:
    """Latents -> pictures in [-1, 1], without a gradient."""
    return drawn(latents, z) * 2 - 1


# ------------------------------------------------------------------------------------------------------ model

class Imagined(NamedTuple):
    """What was imagined: pictures in [-1, 1] and their codes, the losses of each step (of the pictures before
    it), and the pictures of some steps as bytes, with the numbers of steps before them."""

    images: Float[Tensor, "b 3 y x"]
    codes: Int[Tensor, "b g h w"]
    losses: Float[Tensor, "steps b"]
    frames: UInt8[Tensor, "f b 3 y x"]
    frame_steps: tuple[int, ...]


class VQGANCLIP(nn.Module):
    """A model with codes and a CLIP, both as they are; ``imagine`` moves a
    grid of latents until CLIP sees in its picture what a text says
    (eq:imagine-loss). ``of`` puts two trained models together.

    Raises ``ValueError`` for goals of another size than CLIP's embeddings.
    """

    def __init__(self, config: VQGANCLIPConfig) -> None:
        super().__init__()
        self.config = config
        kinds = {VQGANConfig: VQGAN, VQVAEConfig: VQVAE, ViTVQGANConfig: ViTVQGAN}
        self.vqgan: nn.Module = kinds[type(config.vqgan)](config.vqgan)  # type: ignore[arg-type]
        self.clip = CLIP(config.clip)

    @classmethod
    def of(cls, vqgan: VQGAN | VQVAE | ViTVQGAN, clip: CLIP, cutouts: CutoutConfig | None = None,
           size: int | None = None, steps: int = 500, lr: float | int = 0.1,
           decay: float | int = 0.0) -> "VQGANCLIP":
        """The two models, which stay the caller's, with the recipe of ``paper`` where nothing else is said;
        pictures have the size that CLIP reads."""
        with blank():
            model = cls(VQGANCLIPConfig(vqgan.config, clip.config, cutouts or CutoutConfig(),
                                        size or clip.config.size, steps, lr, decay))
        model.vqgan, model.clip = vqgan, clip
        return model

    def first(self, b: int, seed: int = 0) -> Float[Tensor, "b n h w"]:
        """Codes drawn evenly, the same for all of a batch."""
        latents = latents_of(self.vqgan)
        side = self.config.size // latents.factor
        g = torch.Generator().manual_seed(seed)
        maps = [torch.randint(len(book), (1, side, side), generator=g)
                for book in latents.books]
        codes = torch.stack(maps, dim=1).to(latents.books[0].device)
        return latents.look_up(codes.expand(b, -1, -1, -1))

    def pull(
        self, images: Float[Tensor, "b 3 y x"],
        goals: Float[Tensor, "b g e"], weights: Float[Tensor, " g"],
        cuts: Cuts, at_once: int,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b 3 y x"]]:
        """eq:imagine-loss of pictures in [0, 1] and its gradient there,
        ``at_once`` cuts at a time: what CLIP keeps for one part is gone
        before the next."""
        seen = pooled(images, self.config.clip.size)
        leaf = seen.detach().requires_grad_()
        loss, gradient = images.new_zeros(len(images)), torch.zeros_like(leaf)
        for part in cuts.split(at_once):
            many = cut(leaf, part).flatten(0, 1)                # (k b) 3 s s
            u = self.clip.encode_image(standardise(many))
            u = u.unflatten(0, (len(part), -1))                 # k b e
            found = imagine_loss(u, goals, weights, len(cuts))
            gradient += torch.autograd.grad(found.sum(), leaf)[0]
            loss += found.detach()
        return loss, torch.autograd.grad(seen, images, gradient)[0]

    def descend(
        self, latents: Latents, z: Tensor, optimizer: torch.optim.Optimizer,
        goals: Float[Tensor, "b g e"], weights: Float[Tensor, " g"],
        cuts: Cuts, step: int, at_once: int,
    ) -> Float[Tensor, " b"]:
        """One step of the latents ``z``, in place; the losses before it."""
        x = drawn(latents, z)
        at_x = x.detach().requires_grad_()
        loss, by_x = self.pull(at_x, goals, weights, cuts, at_once)
        pulls = latent_decay(z, step, self.config.decay).sum()
        z.grad, = torch.autograd.grad((x * by_x).sum() + pulls, z)
        optimizer.step()
        with torch.no_grad():
            z.copy_(latents.within(z))
        return loss.cpu()

    @torch.enable_grad()
    def imagine(
        self, goals: Tensor, *, weights: Tensor | None = None, seed: int = 0,
        at_once: int = 8, start: Tensor | None = None, keep_every: int = 0,
        on_step: Callable[[int], Any] | None = None,
    ) -> Imagined:
        """Pictures for the texts whose embeddings are ``goals``, (b, e) or (b,
        g, e) with ``weights`` (g). ``start`` are pictures in [-1, 1] to begin
        with; every ``keep_every`` steps the pictures are kept."""
        latents, c = latents_of(self.vqgan), self.config
        goals, weights = checked_goals(goals, weights, c.clip.embed)
        draws = torch.Generator().manual_seed(seed + 1)
        losses, kept = [], {}
        with eval_mode(self), frozen(self):
            z = (self.first(len(goals), seed) if start is None
                 else self.encoded(start)).float().clone().requires_grad_()
            optimizer = torch.optim.Adam([z], lr=c.lr)
            for step in range(c.steps):
                if keep_every and step % keep_every == 0:
                    kept[step] = pictures_of(latents, z)
                cuts = draw_cuts(c.cutouts, draws)
                losses.append(self.descend(latents, z, optimizer, goals,
                                           weights, cuts, step, at_once))
                if on_step is not None:
                    on_step(step + 1)
            last = pictures_of(latents, z)
        if keep_every:
            kept[c.steps] = last
        return Imagined(last, latents.nearest(z), stacked(losses, len(goals)),
                        as_frames(kept, last), tuple(kept))

    @torch.no_grad()
    def encoded(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b n h w"]:
        """The vectors of pictures' codes, to begin with."""
        size = (self.config.size, self.config.size)
        if tuple(images.shape[-2:]) != size:
            raise ValueError(f"the pictures to start with have {images.shape[-2]} x {images.shape[-1]} "
                             f"pixels; resize them to {size[0]} x {size[1]}")
        codes = self.vqgan.encode(images)                               # type: ignore[operator]
        return latents_of(self.vqgan).look_up(codes if codes.ndim == 4 else codes[:, None])

    @torch.no_grad()
    def scores(
        self, images: Float[Tensor, "b 3 y x"], goals: Float[Tensor, "b e"]
    ) -> Float[Tensor, " b"]:
        """Cosines of whole pictures in [-1, 1] with their texts, as CLIP sees them."""
        with eval_mode(self):
            seen = resized((images + 1) / 2, self.config.clip.size)
            u = self.clip.encode_image(standardise(seen), normalise=True)
        return (u * F.normalize(goals, dim=-1)).sum(dim=-1)


def checked_goals(goals: Tensor, weights: Tensor | None, embed: int) -> tuple[Tensor, Tensor]:
    """Goals (b, g, e) and weights (g)."""
    if goals.ndim not in (2, 3) or goals.shape[-1] != embed:
        raise ValueError(f"goals have shape {tuple(goals.shape)}, and CLIP's embeddings have {embed} "
                         f"numbers; embed the texts with the CLIP that guides")
    goals = goals.detach()[:, None] if goals.ndim == 2 else goals.detach()
    weights = goals.new_ones(goals.shape[1]) if weights is None else weights.to(goals)
    if weights.shape != goals.shape[1:2]:
        raise ValueError(f"there are {weights.numel()} weights of {goals.shape[1]} texts a picture; "
                         f"give one each")
    return goals, weights


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient in the block, so that none of what only they need is kept; afterwards
    each is as before."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def resized(x: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Square pictures in [0, 1] at CLIP's size, as it wants whole ones: bicubic, without aliasing."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def as_bytes(x: Float[Tensor, "b 3 y x"]) -> UInt8[Tensor, "b 3 y x"]:
    """Pictures in [-1, 1] as bytes, on the CPU."""
    return ((x.detach() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def as_frames(kept: dict[int, Tensor], like: Tensor) -> UInt8[Tensor, "f b 3 y x"]:
    """Pictures of several steps as bytes."""
    return torch.stack([as_bytes(x) for x in kept.values()]) if kept else as_bytes(like)[None][:0]


def stacked(losses: list[Tensor], b: int) -> Float[Tensor, "steps b"]:
    """The losses of all steps, of which there may be none."""
    return torch.stack(losses) if losses else torch.empty(0, b)
