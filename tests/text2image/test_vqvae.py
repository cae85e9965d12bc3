"""VQ-VAE and VQ-VAE-2: pictures as maps of whole numbers, and back."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count
from torch import nn

from mmlearn.text2image.vector_quantisation import EMACodebook, perplexity, usage
from mmlearn.text2image.vqvae import (
    VQVAE,
    VQVAE2,
    VQVAE2Config,
    VQVAEConfig,
    bits_per_number,
    categorical_error,
    most_recognised,
    pixel_values,
    scaled_error,
    vqvae_loss,
)

pytestmark = pytest.mark.usefixtures("seeded")


def pictures(n=3, size=16):
    return torch.rand(n, 3, size, size) * 2 - 1


PAPER = VQVAEConfig(16, 8, 6, 1, 10, 4)
KINDS = {
    "paper": PAPER,
    "released": replace(PAPER, code="released"),
    "averages": replace(PAPER, code="released", ema=True),
    "three books": replace(PAPER, books=3),
    "values": replace(PAPER, levels=7),
    "books and values": replace(PAPER, books=3, levels=7),
}
TWO = VQVAE2Config(16, 8, 6, 1, 10, 4)


def spread(model):
    """Codes where the encoder's vectors lie, so that several are used."""
    dead, x = torch.ones(10, dtype=torch.bool), pictures()
    with torch.no_grad():
        if isinstance(model, VQVAE):
            for book, z in zip(model.codebooks, model.latents(x)):
                book.restart(z, dead)
        else:
            shallow, z = model.latents(x)
            model.top_codes.restart(z, dead)
            top = model.top_codes.look_up(model.top_codes.quantise(z))
            model.bottom_codes.restart(model.bottom_latent(shallow, top), dead)
    return model


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:vqvae-loss")
def test_the_loss_is_three_terms():
    a, b, c = torch.randn(3, dtype=torch.float64)
    assert float(vqvae_loss(a, b, c)) == pytest.approx(float(a) + float(b) + 0.25 * float(c))
    assert float(vqvae_loss(a, b, c, 2)) == pytest.approx(float(a) + float(b) + 2 * float(c))


@pytest.mark.equation("eq:vqvae-error")
def test_the_error_is_relative_to_the_variance_of_the_data():
    x_hat, x = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    want = sum((a - b) ** 2 for a, b in zip(x_hat.flatten().tolist(), x.flatten().tolist())) / 96
    assert float(scaled_error(x_hat, x)) == pytest.approx(want)
    mean, variance = x.mean(), float(x.var(correction=0))
    assert float(scaled_error(torch.full_like(x, float(mean)), x, variance)) == pytest.approx(1)


@pytest.mark.equation("eq:vqvae-values")
def test_pixels_become_values_and_their_middles_come_back():
    assert pixel_values(torch.tensor([-1.0, -0.001, 0.001, 0.999, 1.0])).tolist() == [0, 127, 128, 255, 255]
    for levels in (2, 7, 256):
        values = torch.arange(levels)
        middles = (values + 0.5) / levels * 2 - 1
        assert torch.equal(pixel_values(middles, levels), values)


@pytest.mark.equation("eq:vqvae-softmax")
def test_the_categorical_error_is_the_cross_entropy_of_every_number():
    logits, x = torch.randn(2, 3, 5, 2, 2, dtype=torch.float64), pictures(2, 2).double()
    total = 0.0
    for b in range(2):
        for c in range(3):
            for i in range(2):
                for j in range(2):
                    row = logits[b, c, :, i, j].tolist()
                    value = min(4, int((float(x[b, c, i, j]) + 1) / 2 * 5))
                    total -= row[value] - math.log(sum(math.exp(a) for a in row))
    assert float(categorical_error(logits, x)) == pytest.approx(total / 24)
    even = categorical_error(torch.zeros(2, 3, 256, 2, 2), pictures(2, 2))
    assert float(even) == pytest.approx(math.log(256))


@pytest.mark.equation("eq:vqvae-bits")
def test_the_bits_of_a_number_count_the_codes_too():
    assert bits_per_number(math.log(256), 0, 3072) == pytest.approx(8)
    assert bits_per_number(0, 5760, 3072) == pytest.approx(1.875)


# -------------------------------------------------------------------------------------------- configurations

def test_the_paper_stores_imagenet_in_42_times_fewer_bits():
    config = VQVAEConfig.imagenet()
    assert (config.grid, config.codes, config.books) == (32, 512, 1)
    assert config.bits == 9216 and config.compression == pytest.approx(42.67, abs=0.01)
    cifar = VQVAEConfig.cifar10()
    assert (cifar.grid, cifar.books, cifar.levels) == (8, 10, 256) and cifar.bits == 8 * 8 * 10 * 9
    assert VQVAE2Config.imagenet().bits == 9 * (32 * 32 + 64 * 64)


def by_hand(width, inner, outer, mix, kernel, books, code_width, out, codes):
    """Parameters of encoder, both projections, decoder and codebooks, layer by layer."""
    def conv(a, b, k):
        return a * b * k * k + b

    stack = 2 * (conv(width, inner, 3) + conv(inner, width, 1))
    encoder = conv(3, outer, 4) + conv(outer, width, 4) + (conv(width, width, 3) if mix else 0) + stack
    decoder = conv(books * code_width, width, kernel) + stack + conv(width, outer, 4) + conv(outer, out, 4)
    return encoder + conv(width, books * code_width, 1) + decoder + books * codes * code_width


def test_sizes_of_the_named_configurations():
    want = {
        "imagenet": by_hand(256, 256, 256, False, 1, 1, 64, 3, 512),
        "cifar10": by_hand(256, 256, 256, False, 1, 10, 64, 768, 512),
        "released": by_hand(128, 32, 64, True, 3, 1, 64, 3, 512),
        "mini": by_hand(64, 32, 32, True, 3, 1, 16, 3, 0),                 # averages are no parameters
    }
    with torch.device("meta"):
        found = {name: count(VQVAE(getattr(VQVAEConfig, name)())) for name in want}
        two = {name: count(VQVAE2(getattr(VQVAE2Config, name)())) for name in ("imagenet", "mini")}
    assert found == want
    assert found == {"imagenet": 4_811_843, "cifar10": 8_536_448, "released": 695_491, "mini": 198_291}
    assert two == {"imagenet": 1_716_803, "mini": 174_363}


def test_the_meta_device_draws_maps_of_the_papers_sizes():
    with torch.device("meta"):
        model = VQVAE(VQVAEConfig.imagenet())
        assert model.latents(torch.empty(2, 3, 128, 128))[0].shape == (2, 64, 32, 32)
        two = VQVAE2(VQVAE2Config.imagenet())
        shallow, top = two.latents(torch.empty(2, 3, 256, 256))
        assert top.shape == (2, 64, 32, 32) and shallow.shape == (2, 128, 64, 64)
        assert two.output(torch.empty(2, 64, 32, 32), torch.empty(2, 64, 64, 64)).shape == (2, 3, 256, 256)


# ----------------------------------------------------------------------------------------- the usual promises

@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_codes(kind):
    config, x = KINDS[kind], pictures()
    model = spread(VQVAE(config)).eval()
    coded = model(x)
    places = (3, 4, 4) if config.books == 1 else (3, config.books, 4, 4)
    assert coded.codes.shape == places and torch.equal(coded.codes, model.encode(x))
    assert coded.output.shape == ((3, 3, 7, 16, 16) if config.levels else (3, 3, 16, 16))
    drawn = model.decode(coded.codes)
    torch.testing.assert_close(drawn, model.pictures(coded.output), atol=1e-4, rtol=1e-4)
    assert drawn.shape == (3, 3, 16, 16) and drawn.abs().max() <= 1 and not drawn.requires_grad
    assert len(coded.codes.unique()) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    model = spread(VQVAE(KINDS[kind]))
    model.loss(pictures()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_what_it_is_alone(kind):
    model, x = spread(VQVAE(KINDS[kind])).eval(), pictures()
    together = model(x)
    for i in range(3):
        alone = model(x[i : i + 1])
        assert torch.equal(alone.codes[0], together.codes[i])
        torch.testing.assert_close(alone.output[0], together.output[i], atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_formula_written_out():
    model, x = spread(VQVAE(KINDS["three books"])).double(), pictures().double()
    z = model.to_codes(model.encoder(x))
    z_q, codebook = torch.empty_like(z), 0.0
    for g in range(3):
        part, book = z[:, 4 * g : 4 * g + 4], model.codebooks[g].weight
        for b in range(3):
            for i in range(4):
                for j in range(4):
                    vector = part[b, :, i, j]
                    z_q[b, 4 * g : 4 * g + 4, i, j] = book[(vector - book).square().sum(1).argmin()]
        codebook += float(F.mse_loss(part, z_q[:, 4 * g : 4 * g + 4]))
    error = float((model.decoder(z_q) - x).square().mean()) / 0.4
    assert float(model.loss(x, 0.4)) == pytest.approx(error + 1.25 * codebook)


def test_only_averages_move_by_themselves_and_only_in_training():
    for kind, moves in (("released", False), ("averages", True)):
        model = spread(VQVAE(KINDS[kind]))
        book = model.codebooks[0]
        before = book.weight.clone()
        model.eval()(pictures())
        assert torch.equal(before, book.weight)
        model.train()(pictures())
        assert torch.equal(before, book.weight) != moves
        assert isinstance(book, EMACodebook) == moves


class Example(nn.Module):
    """The network of DeepMind's example, written out in plain torch, with names of its own."""

    def __init__(self):
        super().__init__()
        self.enc_1, self.enc_2 = nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 8, 4, 2, 1)
        self.enc_3, self.to_vq = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 4, 1)
        self.dec_1 = nn.Conv2d(4, 8, 3, 1, 1)
        self.dec_2, self.dec_3 = nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)
        self.res = nn.ModuleDict({f"{side}_{size}": nn.Conv2d(*shape) for side in ("enc", "dec")
                                  for size, shape in (("3x3", (8, 6, 3, 1, 1)), ("1x1", (6, 8, 1)))})
        self.embeddings = nn.Parameter(torch.randn(4, 10) / 5)

    def residual(self, h, side):
        return F.relu(h + self.res[f"{side}_1x1"](F.relu(self.res[f"{side}_3x3"](F.relu(h)))))

    def forward(self, x):
        h = F.relu(self.enc_1(x))
        h = self.residual(self.enc_3(F.relu(self.enc_2(h))), "enc")
        z = self.to_vq(h).permute(0, 2, 3, 1)
        distances = (z.square().sum(-1, keepdim=True) - 2 * z @ self.embeddings
                     + self.embeddings.square().sum(0))
        codes = distances.argmin(-1)
        z_q = self.embeddings.T[codes].permute(0, 3, 1, 2)
        h = self.residual(self.dec_1(z_q), "dec")
        return self.dec_3(F.relu(self.dec_2(h))), codes


def test_the_released_form_is_the_example_written_out_with_every_weight_used():
    theirs, ours, x = Example().eval(), VQVAE(KINDS["released"]).eval(), pictures()
    names = {"encoder.0": "enc_1", "encoder.2": "enc_2", "encoder.4": "enc_3",
             "encoder.5.conv1": "res.enc_3x3", "encoder.5.conv2": "res.enc_1x1", "to_codes": "to_vq",
             "decoder.0": "dec_1",
             "decoder.1.conv1": "res.dec_3x3", "decoder.1.conv2": "res.dec_1x1", "decoder.3": "dec_2",
             "decoder.5": "dec_3"}
    state, given = {}, dict(theirs.named_parameters())
    for mine, their in names.items():
        for part in ("weight", "bias"):
            state[f"{mine}.{part}"] = given.pop(f"{their}.{part}")
    state["codebooks.0.weight"] = given.pop("embeddings").T
    assert not given
    ours.load_state_dict(state)
    spread(ours)
    with torch.no_grad():
        theirs.embeddings.copy_(ours.codebooks[0].weight.T)
    (output, codes), coded = theirs(x), ours(x)
    assert torch.equal(codes, coded.codes) and len(codes.unique()) > 1
    torch.testing.assert_close(coded.output, output, atol=1e-5, rtol=1e-5)


def shapes_of_the_scene_world(n=4):
    x = torch.full((n, 3, 16, 16), -0.5)
    for i in range(n):
        x[i, i % 3, 4 * (i % 3) : 4 * (i % 3) + 6, 2 + 2 * i : 9 + 2 * i] = 0.9
    return x


@pytest.mark.parametrize("ema", [False, True])
def test_a_handful_of_pictures_is_learnt_by_heart(ema):
    x = shapes_of_the_scene_world()
    model = VQVAE(replace(PAPER, width=24, inner=16, codes=32, code_width=8, ema=ema, decay=0.9,
                          code="released"))
    adam = torch.optim.Adam(model.parameters(), 4e-3)
    variance = float(x.var())
    for step in range(150):
        if ema and step < 50 and step % 10 == 1:
            model.codebooks[0].restart(model.latents(x)[0].detach(), least=0.5)
        adam.zero_grad(set_to_none=True)
        loss = model.loss(x, variance)
        loss.backward()
        adam.step()
    model.eval()
    error = float(scaled_error(model.decode(model.encode(x)), x, variance))
    assert error < 0.25, error
    assert float(perplexity(usage(model.encode(x), 32))) > 2


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="size is 30 pixels; use a multiple of 4"):
        replace(PAPER, size=30)
    with pytest.raises(ValueError, match="levels is 1; use 0 for real pixels"):
        replace(PAPER, levels=1)
    with pytest.raises(ValueError, match="code is 'sonnet'; use one of paper, released"):
        replace(PAPER, code="sonnet")
    with pytest.raises(ValueError, match="size is 36 pixels; use a multiple of 8"):
        replace(TWO, size=36)
    model = VQVAE(PAPER)
    with pytest.raises(ValueError, match="pictures have 16 x 20 pixels, the model wants 16 x 16"):
        model(torch.randn(2, 3, 16, 20))
    with pytest.raises(ValueError, match=r"codes have shape \(2, 1, 4, 4\); give \(b, y, x\)"):
        model.decode(torch.zeros(2, 1, 4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="codes are from 10 to 10, the codebook has 0 to 9"):
        model.decode(torch.full((2, 4, 4), 10))
    with pytest.raises(ValueError, match="the top has 2 x 2 codes, the bottom 2 x 2; the bottom has twice"):
        VQVAE2(TWO).decode(*torch.zeros(2, 1, 2, 2, dtype=torch.long))


# --------------------------------------------------------------------------------------------------- VQ-VAE-2

def test_two_maps_of_codes_and_a_decoder_that_sees_both():
    model, x = spread(VQVAE2(TWO)).eval(), pictures()
    coded = model(x)
    assert coded.top.shape == (3, 2, 2) and coded.bottom.shape == (3, 4, 4)
    top, bottom = model.encode(x)
    assert torch.equal(top, coded.top) and torch.equal(bottom, coded.bottom)
    drawn = model.decode(top, bottom)
    torch.testing.assert_close(drawn, coded.output.clamp(-1, 1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(drawn, model.decode((top + 1) % 10, bottom))
    assert not torch.allclose(drawn, model.decode(top, (bottom + 1) % 10))


def test_the_bottom_map_is_coded_given_the_top():
    model, x = spread(VQVAE2(TWO)).eval(), pictures()
    shallow, z = model.latents(x)
    top = model.top_codes(z)
    bottom = model.bottom_latent(shallow, top.z_q)
    other = model.bottom_latent(shallow, model.top_codes.look_up((top.codes + 1) % 10))
    assert bottom.shape == other.shape == (3, 4, 4, 4) and not torch.allclose(bottom, other)


def test_gradients_of_vq_vae_2_reach_every_parameter():
    model = spread(VQVAE2(TWO))
    model.loss(pictures()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
    assert int(model.top_codes.step) == int(model.bottom_codes.step) == 1


def test_the_second_map_brings_the_details_back():
    """With the top alone (the bottom's codes shuffled) the picture is worse."""
    x = shapes_of_the_scene_world()
    model = VQVAE2(replace(TWO, width=24, inner=16, codes=32, code_width=8, decay=0.9))
    adam = torch.optim.Adam(model.parameters(), 4e-3)
    for step in range(150):
        if step < 50 and step % 10 == 1:
            shallow, z = model.latents(x)
            model.top_codes.restart(z.detach(), least=0.5)
            below = model.bottom_latent(shallow, model.top_codes.look_up(model.top_codes.quantise(z)))
            model.bottom_codes.restart(below.detach(), least=0.5)
        adam.zero_grad(set_to_none=True)
        model.loss(x, float(x.var())).backward()
        adam.step()
    top, bottom = model.eval().encode(x)
    error = float(scaled_error(model.decode(top, bottom), x, float(x.var())))
    shuffled = float(scaled_error(model.decode(top, bottom.roll(1, 0)), x, float(x.var())))
    assert error < 0.3 < shuffled, (error, shuffled)


@pytest.mark.equation("eq:vqvae-reject")
def test_a_classifier_keeps_the_pictures_that_it_recognises_best():
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [0.3, 0.7]])
    classes = torch.tensor([0, 0, 0, 1, 1])
    order = sorted(range(5), key=lambda i: -float(probabilities[i, classes[i]]))
    assert order == [0, 4, 2, 3, 1]
    for rate, kept in ((1.0, 5), (0.5, 3), (0.4, 2), (0.01, 1)):
        assert most_recognised(probabilities, classes, rate).tolist() == order[:kept]
    with pytest.raises(ValueError, match="rate is 0.0; accept a share above 0"):
        most_recognised(probabilities, classes, 0.0)
    with pytest.raises(ValueError, match="do not sum to 1; apply a softmax"):
        most_recognised(probabilities * 3, classes, 0.5)
