import math

import pytest
import torch

from mmlearn.catalog import count_parameters, published
from mmlearn.nn.attention import record_attention
from mmlearn.text_for_vision.clip import (
    CLIP,
    PUBLISHED,
    CLIPConfig,
    TextConfig,
    TextTransformer,
    at_size,
    clamp_logit_scale_,
    count_gflops,
    eot_position,
    read_at_eot,
)

EOT = 3
SIZES = {  # parameters of image tower and of everything else, counted in openai/CLIP
    "rn50": (38_316_896, 63_690_241), "rn101": (56_259_936, 63_428_097), "rn50x4": (87_137_080, 91_163_521),
    "rn50x16": (167_328_912, 123_650_305), "rn50x64": (420_380_352, 202_877_953),
    "vit_b32": (87_849_216, 63_428_097), "vit_b16": (86_192_640, 63_428_097),
    "vit_l14": (303_966_208, 123_650_305), "vit_l14_336": (304_293_888, 123_650_305),
}


def mini(family="mini", **options):
    torch.manual_seed(0)
    return CLIP(getattr(CLIPConfig, family)(vocab=20, context=10, **options))


def pairs(b=4):
    torch.manual_seed(1)
    tokens = torch.randint(4, 20, (b, 10))
    for row in range(b):
        tokens[row, 3 + row % 6] = EOT
        tokens[row, 4 + row % 6 :] = 1
    return torch.randn(b, 3, 64, 64), tokens


# ------------------------------------------------------------------------------------------------------ sizes

@pytest.mark.parametrize("name", SIZES)
def test_every_published_size_has_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = CLIP(getattr(CLIPConfig, name)())
    image, rest = SIZES[name]
    assert count_parameters(model.image) == image
    assert count_parameters(model.text) + model.logit_scale.numel() == rest
    assert count_parameters(model) == image + rest


@pytest.mark.parametrize(
    "name, embed, side", [("rn50x4", 640, 288), ("vit_b16", 512, 224), ("vit_l14_336", 768, 336)]
)
def test_a_paper_size_model_maps_its_images_and_captions_to_one_space(name, embed, side):
    with torch.device("meta"):
        model = CLIP(getattr(CLIPConfig, name)())
        u, v, scale = model(torch.empty(2, 3, side, side), torch.empty(2, 77, dtype=torch.long))
    assert u.shape == v.shape == (2, embed) and scale.shape == ()
    assert (model.config.size, model.config.context, model.config.vocab,
            model.config.eot) == (side, 77, 49_408, 49_407)


def test_the_nine_published_models_are_the_named_sizes():
    assert [row.build() for row in PUBLISHED.values()] == [getattr(CLIPConfig, name)() for name in SIZES]
    assert published("CLIP") == {row.build.__name__: sum(SIZES[row.build.__name__])
                                 for row in PUBLISHED.values()}


@pytest.mark.parametrize("name, least", [("ViT-B/32", 0.995), ("ViT-L/14", 0.995), ("RN50", 0.95)])
def test_the_arithmetic_of_a_forward_pass_is_that_published(name, least):
    """OpenCLIP's attention pool computes all positions, ours the one that is read: a little less for the
    ResNets."""
    image, text = count_gflops(PUBLISHED[name].build())
    assert least < (image + text) / PUBLISHED[name].gflops < 1.005


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation is 'relu'; use one of quick_gelu, gelu"):
        CLIPConfig(activation="relu")


# -------------------------------------------------------------------------------------------------- the model

@pytest.mark.parametrize("family", ["mini", "mini_resnet"])
def test_both_sides_are_unit_vectors_and_the_scale_starts_at_one_over_seven_hundredths(family):
    model, (images, tokens) = mini(family).eval(), pairs()
    with torch.no_grad():
        u, v, scale = model(images, tokens)
        torch.testing.assert_close(u.norm(dim=-1), torch.ones(4))
        torch.testing.assert_close(v.norm(dim=-1), torch.ones(4))
        assert float(scale) == pytest.approx(1 / 0.07)
        for mine, raw in ((u, model.encode_image(images)), (v, model.encode_text(tokens))):
            torch.testing.assert_close(mine, raw / raw.norm(dim=-1, keepdim=True))
        torch.testing.assert_close(model.encode_image(images, normalise=True), u)
        torch.testing.assert_close(model.encode_text(tokens, normalise=True), v)


@pytest.mark.parametrize("family", ["mini", "mini_resnet"])
def test_a_batch_of_one_is_a_row_of_the_batch(family):
    model, (images, tokens) = mini(family).eval(), pairs()
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images[2:3]), model.encode_image(images)[2:3],
                                   atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.encode_text(tokens[2:3]), model.encode_text(tokens)[2:3], atol=1e-5,
                                   rtol=1e-5)


@pytest.mark.parametrize("family", ["mini", "mini_resnet"])
def test_gradients_reach_every_parameter(family):
    model, (images, tokens) = mini(family), pairs()
    if family == "mini_resnet":
        for name, value in model.named_parameters():
            if name.endswith("third.1.weight"):
                torch.nn.init.ones_(value)
    u, v, scale = model(images, tokens)
    torch.nn.functional.cross_entropy(scale * u @ v.T, torch.arange(4)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("family", ["mini", "mini_resnet"])
def test_a_handful_of_pairs_is_learned_by_heart(family):
    model, (images, tokens) = mini(family), pairs(6)
    optimizer, labels = torch.optim.AdamW(model.parameters(), lr=1e-3), torch.arange(6)
    for step in range(40):
        u, v, scale = model(images, tokens)
        logits = scale * u @ v.T
        loss = (torch.nn.functional.cross_entropy(logits, labels)
                + torch.nn.functional.cross_entropy(logits.T, labels)) / 2
        if step == 0:
            assert 0.8 * math.log(6) < float(loss.detach()) < 6
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clamp_logit_scale_(model)
    assert float(loss.detach()) < 0.1
    assert (logits.argmax(1) == labels).all() and (logits.argmax(0) == labels).all()


def test_a_bias_is_a_parameter_only_where_it_is_asked_for():
    assert mini().logit_bias is None
    model = mini(logit_bias=-10.0)
    assert float(model.logit_bias.detach()) == -10.0 and "logit_bias" in dict(model.named_parameters())


def test_the_record_holds_the_attention_of_both_towers_and_changes_nothing():
    model, (images, tokens) = mini().eval(), pairs()
    with torch.no_grad():
        want = model.encode_image(images), model.encode_text(tokens)
        with record_attention(model) as weights:
            torch.testing.assert_close((model.encode_image(images), model.encode_text(tokens)), want)
    assert weights["image.layers.3.attention"].shape == (4, 3, 65, 65)
    assert weights["text.layers.2.attention"].shape == (4, 3, 10, 10)
    assert weights["text.layers.0.attention"].triu(1).abs().max() == 0  # no token sees those after it
    resnet = mini("mini_resnet")
    with record_attention(resnet) as weights:
        resnet.encode_image(images)
    assert weights["image.pool.attention"].shape == (4, 1, 8, 1, 5)


@pytest.mark.equation("eq:scale-clamp")
@pytest.mark.parametrize("before, after", [(7.0, math.log(100)), (2.0, 2.0), (-5.0, -5.0)])
def test_the_scale_is_capped_from_above_only(before, after):
    model = mini()
    model.logit_scale.data.fill_(before)
    clamp_logit_scale_(model)
    assert (
        float(model.logit_scale.detach()) == pytest.approx(min(before, math.log(100))) == pytest.approx(after)
    )
    clamp_logit_scale_(model, most=1)
    assert float(model.logit_scale.detach()) == pytest.approx(min(after, 0.0))


# ------------------------------------------------------------------------------------------------------- text

@pytest.mark.equation("eq:eot-pooling")
def test_a_caption_is_read_at_its_first_end_of_text_token():
    states = torch.randn(3, 5, 2, dtype=torch.float64)
    tokens = torch.tensor([[7, 3, 9, 3, 3], [3, 8, 8, 8, 8], [9, 9, 9, 9, 3]])
    want = []
    for i in range(3):
        m = 0
        while tokens[i, m] != 3:
            m += 1
        want.append(states[i, m])
    torch.testing.assert_close(read_at_eot(states, tokens, 3), torch.stack(want))
    assert eot_position(tokens, 3).tolist() == [1, 0, 4]


def test_the_tower_reads_where_the_formula_says():
    torch.manual_seed(0)
    tower = TextTransformer(TextConfig(20, 10, 24, 2, 3, EOT), 8).double().eval()
    _, tokens = pairs()
    want = read_at_eot(tower.tokens(tokens), tokens, EOT) @ tower.projection
    torch.testing.assert_close(tower(tokens), want)


def test_nothing_after_the_end_of_text_matters_and_captions_may_be_cut_there():
    model, (_, tokens) = mini().eval(), pairs()
    changed = tokens.clone()
    for row in range(4):
        end = int(eot_position(tokens, EOT)[row])
        changed[row, end + 1 :] = torch.randint(0, 20, (9 - end,))
    with torch.no_grad():
        want = model.encode_text(tokens)
        torch.testing.assert_close(model.encode_text(changed), want)
        longest = int(eot_position(tokens, EOT).max()) + 1
        torch.testing.assert_close(model.encode_text(tokens[:, :longest]), want)


def test_order_matters_to_the_text_tower():
    model = mini().eval()
    with torch.no_grad():
        one, other = model.encode_text(torch.tensor([[5, 6, 7, EOT], [7, 6, 5, EOT]]), normalise=True)
    assert float(one @ other) < 0.999


@pytest.mark.parametrize("tokens, message", [
    (torch.full((1, 11), EOT), "captions have 11 tokens, the context has 10"),
    (torch.tensor([[5, EOT], [5, 6]]), "caption 1 has no end-of-text token 3"),
    (torch.tensor([[5, 20, EOT]]), "token ids go from 3 to 20, the vocabulary from 0 to 19"),
    (torch.tensor([[-1, 5, EOT]]), "token ids go from -1 to 5"),
])
def test_captions_that_would_be_misread_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        mini().encode_text(tokens)


def test_the_text_tower_starts_as_the_released_code_initialises_it():
    torch.manual_seed(0)
    tower = TextTransformer(TextConfig(vocab=500, context=50, width=256, layers=4, heads=4, eot=3), 128)
    layer = tower.layers[1]
    for value, std in ((tower.words.weight, 0.02), (tower.positions, 0.01), (tower.projection, 256**-0.5),
                       (layer.attention.in_weight, 256**-0.5),
                       (layer.attention.out.weight, (8 * 256) ** -0.5),
                       (layer.feed_forward.inner.weight, 512**-0.5),
                       (layer.feed_forward.outer.weight, (8 * 256) ** -0.5)):
        assert float(value.detach().std()) == pytest.approx(std, rel=0.03)
    assert not layer.attention.in_bias.any() and not layer.attention.out.bias.any()
    assert 0 < layer.feed_forward.inner.bias.abs().max() <= 256**-0.5


# ----------------------------------------------------------------------------------------- another resolution

@pytest.mark.parametrize("family, size", [("mini", 96), ("mini", 32), ("mini_resnet", 128)])
def test_the_same_weights_read_larger_images_with_resized_positions(family, size):
    model = mini(family).eval()
    other = at_size(model, size)
    assert other.config.size == size and not other.training
    with torch.no_grad():
        assert other.encode_image(torch.randn(2, 3, size, size)).shape == (2, 64)
    _, tokens = pairs()
    torch.testing.assert_close(other.encode_text(tokens), model.encode_text(tokens))
    name = "image.positions" if family == "mini" else "image.pool.positions"
    torch.testing.assert_close(other.state_dict()[name][0], model.state_dict()[name][0])


def test_at_its_own_size_a_model_is_unchanged():
    model, (images, _) = mini().eval(), pairs()
    torch.testing.assert_close(at_size(model, 64).encode_image(images), model.encode_image(images))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="96 x 96 pixels, the model wants 64 x 64"):
        mini().encode_image(torch.randn(1, 3, 96, 96))
    with pytest.raises(ValueError, match="not a multiple of patch 8"):
        at_size(mini(), 70)
