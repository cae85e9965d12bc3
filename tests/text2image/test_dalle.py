"""DALL-E 1: equations by loops, sizes, sampling as by brute force, the promises, parity."""

import math
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred
from oracles import dalle_pytorch
from torch import nn

from mmlearn.data.caption_bpe import CaptionBPE, drop_merges
from mmlearn.data.tokenisers import PlainWordTokeniser
from mmlearn.generate import draw_token
from mmlearn.nn.modes import blank
from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.dalle import DALLE, DALLEConfig, dalle_loss, embed_image, embed_text
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.token_drawing import (
    FirstStage,
    TokenDrawer,
    TokenDrawerConfig,
    clip_score,
    codes_of,
    load_token_drawer,
    rerank,
    save_token_drawer,
)
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig

TINY = DALLEConfig(16, 4, 2, 12, 5, 9, 4, 3)


def build(config=TINY, seed=0):
    """A model that is not as even as it starts."""
    torch.manual_seed(seed)
    return stirred(DALLE(config), seed=None, scale=0.2).eval()


def batch(b=3, config=TINY, seed=1):
    """Texts of different lengths, padded with 0, and pictures."""
    g = torch.Generator().manual_seed(seed)
    text = torch.randint(1, config.text_vocab, (b, config.text_len), generator=g)
    for i in range(b):
        text[i, config.text_len - i % config.text_len:] = config.pad
    return text, torch.randint(config.image_vocab, (b, config.codes), generator=g)


# ------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:dalle-text")
def test_a_word_and_each_place_of_padding_have_vectors_of_their_own():
    torch.manual_seed(0)
    E, P, position = torch.randn(6, 3), torch.randn(4, 3), torch.randn(4, 3)
    tokens = torch.tensor([[2, 5, 0, 0], [1, 2, 3, 4]])
    out = embed_text(tokens, tokens != 0, E, P, position)
    for i in range(2):
        for t in range(4):
            vector = E[tokens[i, t]] if tokens[i, t] else P[t]
            torch.testing.assert_close(out[i, t], vector + position[t])
    assert not torch.equal(out[0, 2] - position[2], out[0, 3] - position[3])


@pytest.mark.equation("eq:dalle-image")
def test_a_code_has_the_vectors_of_its_row_and_its_column_wherever_the_piece_begins():
    torch.manual_seed(0)
    E, R, C = torch.randn(7, 3), torch.randn(4, 3), torch.randn(4, 3)
    tokens = torch.randint(7, (2, 16))
    whole = embed_image(tokens, E, R, C)
    for i in range(2):
        for p in range(16):
            torch.testing.assert_close(whole[i, p], E[tokens[i, p]] + R[p // 4] + C[p % 4])
    torch.testing.assert_close(embed_image(tokens[:, 6:9], E, R, C, first=6), whole[:, 6:9])


@pytest.mark.equation("eq:dalle-loss")
def test_the_loss_is_an_eighth_of_the_texts_mean_and_seven_eighths_of_the_pictures():
    model = build().double()
    text, image = batch()
    out = model(text, image)
    words, codes = [], []
    for i in range(len(text)):
        for t in range(TINY.text_len):
            if text[i, t] != TINY.pad:
                scores = out.text[i, t].exp()
                words.append(-math.log(scores[text[i, t]] / scores.sum()))
        for p in range(TINY.codes):
            scores = out.image[i, p].exp()
            codes.append(-math.log(scores[image[i, p]] / scores.sum()))
    want = sum(words) / len(words) / 8 + 7 * sum(codes) / len(codes) / 8
    loss, scalars = model.loss(text, image)
    assert float(loss) == pytest.approx(want)
    assert float(scalars["text"]) == pytest.approx(sum(words) / len(words))
    assert float(scalars["image"]) == pytest.approx(sum(codes) / len(codes))
    x, y = torch.rand(3, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64)
    torch.testing.assert_close(dalle_loss(x, y), x.sum() / 24 + 7 * y.sum() / 64)


def test_a_model_that_has_learnt_nothing_has_the_loss_of_even_odds():
    torch.manual_seed(0)
    model = DALLE(replace(TINY, width=64))
    _, scalars = model.loss(*batch())
    assert float(scalars["text"]) == pytest.approx(math.log(12), abs=0.1)
    assert float(scalars["image"]) == pytest.approx(math.log(9), abs=0.1)


# ---------------------------------------------------------------------------------------------------- sizes

@pytest.mark.parametrize("config, matrices, whole", [
    (DALLEConfig.paper(), 12_092_178_432, 12_292_812_416),
    (DALLEConfig.width_1920(), 2_831_155_200, 2_928_236_160),
    (DALLEConfig.width_2688(), 5_549_064_192, 5_684_977_536)], ids=["12 B", "2.8 B", "5.6 B"])
def test_e25_the_published_sizes_are_those_of_64_layers(config, matrices, whole):
    with blank():
        model = DALLE(config)
    assert sum(p.numel() for name, p in model.blocks.named_parameters() if p.ndim == 2) == matrices
    assert matrices == 64 * 12 * config.width**2 and count(model) == whole
    assert config.width == 64 * config.heads and len(model.blocks) == 64
    assert config.kinds.count("column") == 16 and config.kinds[-1] == "convolution"
    vectors = (config.text_vocab + config.text_len + config.image_vocab) * config.width
    assert count(model.words) + count(model.codes) + model.padding.numel() == vectors


@pytest.mark.parametrize("change, message", [
    ({"heads": 3}, "heads of DALLEConfig is 3, which does not divide width 16"),
    ({"kernel": 4}, "kernel is 4.*odd number below 8"), ({"kernel": 9}, "kernel is 9.*odd number below 8"),
    ({"attention": "dense"}, "attention is 'dense'; use sparse or full"),
    ({"side": 0}, "side of DALLEConfig is 0")])
def test_an_impossible_size_is_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


# ------------------------------------------------------------------------------------------------ promises

def test_shapes_of_scores():
    model = build()
    out = model(*batch())
    assert out.text.shape == (3, 5, 12) and out.image.shape == (3, 16, 9)
    text, image = batch()
    assert model(text, image[:, :7]).image.shape == (3, 7, 9)


@pytest.mark.parametrize("blockwise", [False, True])
@pytest.mark.parametrize("attention", ["sparse", "full"])
def test_scores_do_not_depend_on_the_token_itself_nor_on_later_ones(attention, blockwise):
    model = build(replace(TINY, attention=attention)).use_blocks(blockwise)
    text, image = batch()
    out = model(text, image)
    changed = image.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 9
    other = model(text, changed)
    torch.testing.assert_close(other.image[:, :7], out.image[:, :7])
    torch.testing.assert_close(other.text, out.text)
    assert not torch.allclose(other.image[:, 7:], out.image[:, 7:])
    words = text.clone()
    words[0, 3] = words[0, 3] % 11 + 1
    other = model(words, image)
    torch.testing.assert_close(other.text[0, :4], out.text[0, :4])
    assert not torch.allclose(other.image[0, 0], out.image[0, 0])


def test_a_short_text_reads_as_it_does_with_padding_and_padding_is_read():
    model = build()
    text, image = batch()
    text[:, 3:] = 0
    torch.testing.assert_close(model(text[:, :3], image).image, model(text, image).image)
    with torch.no_grad():
        before = model(text, image).image
        model.padding[4].add_(1.0)
    assert not torch.allclose(model(text, image).image, before)


def test_padding_is_not_predicted_and_changes_no_loss_of_words():
    model = build()
    text, image = batch(b=1)
    text[:, 3:] = 0
    with torch.no_grad():
        before = model.loss(text, image)[1]["text"]
        model.padding.add_(1.0)
        assert torch.equal(model.loss(text, image)[1]["text"], before)


def test_blocks_and_masks_give_one_loss_and_one_gradient():
    model, (text, image) = build(), batch()
    model.loss(text, image)[0].backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.use_blocks().loss(text, image)[0].backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, grads[name], atol=1e-5, rtol=1e-4)


def test_a_batch_of_one_is_a_row_of_a_batch_and_both_modes_are_alike():
    model, (text, image) = build(), batch()
    whole = model(text, image).image
    torch.testing.assert_close(model(text[1:2], image[1:2]).image, whole[1:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(model.train()(text, image).image, whole)


def test_gradients_reach_every_parameter():
    model = build()
    model.loss(*batch())[0].backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_wrong_tokens_and_lengths_are_sentences():
    model, (text, image) = build(), batch()
    with pytest.raises(ValueError, match="a text has 6 tokens, the model reads 5; cut it"):
        model(F.pad(text, (0, 1)), image)
    with pytest.raises(ValueError, match="a picture has 17 tokens, expected 1 to 16"):
        model(text, F.pad(image, (0, 1)))
    with pytest.raises(ValueError, match="token ids go from 0 to 9, the vocabulary from 0 to 8"):
        model(text, image.clamp_max(0) + torch.arange(16) // 15 * 9)
    with pytest.raises(ValueError, match="the vocabulary from 0 to 11"):
        model(text + 11, image)
    with pytest.raises(ValueError, match="0 samples"):
        model.sample(text, 0)


def test_a_handful_of_pairs_is_learnt():
    torch.manual_seed(0)
    config = replace(TINY, width=32)
    model, (text, image) = DALLE(config), batch(b=4)
    adam = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        loss, scalars = model.loss(text, image)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(scalars["image"]) < 0.1
    drawn = model.sample(text, top_k=1)
    assert (drawn[:, 0] == image).float().mean() > 0.95


# ------------------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("primed", [0, 6, 15, 16])
def test_sampling_with_a_cache_is_sampling_by_brute_force(attention, primed):
    model = build(replace(TINY, attention=attention))
    text, image = batch(b=2)
    prime = image[:, :primed]
    drawn = model.sample(text, 3, prime=prime, temperature=0.9, top_k=5,
                         generator=torch.Generator().manual_seed(3))
    assert drawn.shape == (2, 3, 16)
    assert torch.equal(drawn[:, :, :primed], prime[:, None].expand(-1, 3, -1))
    g, rows = torch.Generator().manual_seed(3), text.repeat_interleave(3, 0)
    tokens = prime.repeat_interleave(3, 0)
    with torch.no_grad():
        while tokens.shape[1] < 16:
            logits = model(rows, F.pad(tokens, (0, 1))).image[:, -1]
            tokens = torch.cat([tokens, draw_token(logits, 0.9, 5, generator=g)[:, None]], dim=1)
    assert torch.equal(drawn.flatten(0, 1), tokens)


def test_sampling_is_a_function_of_its_generator_and_leaves_the_model_as_it_was():
    model, (text, _) = build().train(), batch()
    one, two, other = (model.sample(text, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert model.training and all(block.attention.cache is None for block in model.blocks)


def test_a_step_of_sampling_reads_no_more_keys_than_it_attends_to(monkeypatch):
    from mmlearn.text2image import sparse_attention

    model, met = build(replace(TINY, layers=1)), []                          # one layer: a window
    keys_of = sparse_attention.keys_of
    monkeypatch.setattr(sparse_attention, "keys_of", lambda *a: met.append(len(keys_of(*a))) or keys_of(*a))
    model.sample(batch(b=1)[0])
    want = sparse_attention.image_mask("convolution", 4, 3).sum(1)[:15]     # the last token is only predicted
    assert met == want.tolist()


# ------------------------------------------------------------------------------------- drawing and reranking

WORDS = PlainWordTokeniser([*PlainWordTokeniser.SPECIALS, "a", "red", "blue", "car", "cat"], "simple")
STAGE = DVAEConfig(vocab=9, width=8, code_width=8, groups=2, blocks=1, size=8)


def drawer():
    torch.manual_seed(0)
    config = TokenDrawerConfig(STAGE, replace(TINY, text_vocab=len(WORDS), pad=WORDS.pad))
    return TokenDrawer(config, WORDS).eval()


def test_pictures_are_drawn_of_texts_in_order_and_follow_from_the_seed():
    model, texts = drawer(), ["a red car", "a blue cat"]
    pictures = model.draw(texts, samples=3, seed=1, batch=2)
    assert pictures.shape == (6, 3, 8, 8) and pictures.abs().max() <= 1
    assert torch.equal(pictures, model.draw(texts, samples=3, seed=1, batch=2))
    assert not torch.equal(pictures, model.draw(texts, samples=3, seed=2))


def test_priming_keeps_the_upper_rows_of_codes():
    model = drawer()
    prime = torch.randint(9, (1, 8))
    codes = model.dalle.sample(model.tokens(["a cat"]), 2, prime=prime)
    assert torch.equal(codes[0, :, :8], prime.expand(2, -1))
    assert model.draw(["a cat"], prime=prime).shape == (1, 3, 8, 8)


def test_texts_of_unknown_words_and_too_many_words_are_refused():
    model = drawer()
    with pytest.raises(ValueError, match="does not know the word 'carr'; near it are car"):
        model.draw(["a red carr"])
    with pytest.raises(ValueError, match="a text has 6 tokens, the model reads 5"):
        model.draw(["a red car a blue cat"])
    with pytest.raises(ValueError, match="keep is 3 of 2 samples"):
        model.draw(["a cat"], 2, keep=3)


def test_reranking_orders_pictures_by_the_score_and_the_best_of_more_is_never_worse():
    pictures = torch.arange(5.0)[:, None, None, None].expand(5, 3, 2, 2) / 5
    scores = torch.tensor([0.1, 0.9, -1.0, 0.9, 0.5])
    ranked = rerank(pictures, "a cat", lambda x, text: scores)
    assert ranked.order.tolist() == [1, 3, 4, 0, 2]
    assert torch.equal(ranked.pictures, pictures[ranked.order])
    assert ranked.scores.tolist() == sorted(scores.tolist(), reverse=True)
    best = [float(rerank(pictures[:n], "a cat", lambda x, text: scores[:len(x)]).scores[0])
            for n in range(1, 6)]
    assert best == sorted(best)
    with pytest.raises(ValueError, match=r"has the shape \(4,\), expected 5 finite numbers"):
        rerank(pictures, "a cat", lambda x, text: scores[:4])


def test_a_clip_chooses_among_the_drawn_pictures():
    model = drawer()

    def bright(pictures, text):
        assert text == "a cat"
        return pictures.mean((1, 2, 3))

    drawn = model.draw(["a cat"], 6, seed=1)
    best = model.draw(["a cat"], 6, seed=1, clip=bright, keep=2)
    order = drawn.mean((1, 2, 3)).argsort(descending=True, stable=True)
    assert torch.equal(best, drawn[order[:2]])


def test_the_clip_of_chapter_4_scores_pictures_of_any_size():
    from mmlearn.text_for_vision.training import load_mini

    score = clip_score(load_mini("resnet"))
    found = score(torch.rand(3, 3, 32, 32) * 2 - 1, "a red car in the snow")
    assert found.shape == (3,) and found.abs().max() <= 1


def test_a_first_stage_is_what_encodes_and_decodes():
    model = drawer()
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    codes = codes_of(model.stage, images, batch=2)
    assert torch.equal(codes, model.stage.tokens(images / 255).flatten(1))
    assert isinstance(model.stage, FirstStage)
    again = TokenDrawer.of(model.stage, model.dalle, WORDS)
    assert torch.equal(again.draw(["a cat"]), model.draw(["a cat"]))
    with pytest.raises(ValueError, match="a Linear has no encode and decode"):
        TokenDrawer.of(nn.Linear(1, 1), model.dalle, WORDS)


def test_a_stage_of_other_codes_is_refused():
    with pytest.raises(ValueError, match="the first stage has codes of 10 kinds, DALL-E writes 9"):
        TokenDrawerConfig(replace(STAGE, vocab=10), TINY)


def test_a_model_on_disk_draws_the_same_pictures_but_for_16_bits(tmp_path):
    model = drawer().half().float()
    save_token_drawer(tmp_path / "dalle.safetensors", model, {"note": "tiny"})
    loaded = load_token_drawer(tmp_path / "dalle.safetensors")
    assert loaded.config == model.config and loaded.tokeniser.words == WORDS.words
    assert torch.equal(loaded.draw(["a red cat"], 2), model.draw(["a red cat"], 2))
    with pytest.raises(FileNotFoundError):
        load_token_drawer(tmp_path / "other.safetensors")


def test_the_miniature_fits_three_megabytes_of_16_bits():
    with blank():
        model = TokenDrawer(TokenDrawerConfig.mini())
    assert 2 * count(model) < 3_000_000


# ------------------------------------------------------------------------------------------------ tokeniser

TEXTS = ["A red car in the snow.", "A blue car by the sea.", "The red cat is in the car."] * 3


def test_captions_are_lower_cased_and_come_back():
    bpe = CaptionBPE.train(TEXTS, size=300)
    assert bpe.encode("A RED Car") == bpe.encode("a red car")
    assert bpe.decode(bpe.encode("A red car in the sea.")) == "a red car in the sea."
    ids = bpe.batch(["a red car", "a cat in the snow"], max_len=4)
    assert ids.shape == (2, 4) and bpe.pad not in ids[1]
    assert bpe.bos not in ids and bpe.eos not in ids


def test_merges_are_dropped_as_often_as_asked_and_the_text_stays():
    bpe = CaptionBPE.train(TEXTS, size=300)
    text = "The red car in the snow."
    assert bpe.encode_dropping(text, random.Random(0), 0.0) == bpe.encode(text)
    letters = bpe.encode_dropping(text, random.Random(0), 1.0)
    assert len(letters) == len(text)
    some = [bpe.encode_dropping(text, random.Random(s), 0.3) for s in range(20)]
    assert len({tuple(ids) for ids in some}) > 3
    assert all(bpe.decode(ids) == text.lower() for ids in [letters, *some])
    assert torch.equal(bpe.batch([text], dropout=0.3, seed=5), bpe.batch([text], dropout=0.3, seed=5))
    with pytest.raises(ValueError, match="dropout is 2; give a probability from 0 to 1"):
        bpe.encode_dropping(text, random.Random(0), 2)


def test_a_word_is_merged_by_rank_pair_after_pair():
    ranks = {("a", "b"): 1, ("b", "c"): 0, ("a", "bc"): 2}
    assert drop_merges("abcab", ranks, 0.0, random.Random(0)) == ["abc", "ab"]
    assert drop_merges("abcab", ranks, 1.0, random.Random(0)) == list("abcab")


def test_a_tokeniser_on_disk_is_the_same(tmp_path):
    bpe = CaptionBPE.train(TEXTS, size=300)
    bpe.save(tmp_path / "bpe.json")
    again = CaptionBPE.load(tmp_path / "bpe.json")
    assert again.encode("A red SNOW cat") == bpe.encode("A red SNOW cat") and again.ranks == bpe.ranks


# ---------------------------------------------------------------------------------------------------- parity

@pytest.mark.parity
def test_with_full_attention_the_layers_are_gpt_2s():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = replace(TINY, attention="full")
    ours, (text, image) = build(config), batch()
    peer = GPT2LMHeadModel(GPT2Config(
        vocab_size=config.image_vocab, n_positions=64, n_embd=16, n_layer=4, n_head=2,
        activation_function="gelu", tie_word_embeddings=False)).eval()
    state = {"transformer.wpe.weight": torch.zeros(64, 16), "transformer.wte.weight": torch.zeros(9, 16),
             "transformer.ln_f.weight": ours.norm.weight, "transformer.ln_f.bias": ours.norm.bias,
             "lm_head.weight": ours.to_codes.weight}
    for i, block in enumerate(ours.blocks):
        state |= {f"transformer.h.{i}.{name}": value for name, value in {
            "ln_1.weight": block.attention_norm.weight, "ln_1.bias": block.attention_norm.bias,
            "attn.c_attn.weight": block.attention.in_weight.T, "attn.c_attn.bias": block.attention.in_bias,
            "attn.c_proj.weight": block.attention.out.weight.T, "attn.c_proj.bias": block.attention.out.bias,
            "ln_2.weight": block.feed_forward_norm.weight, "ln_2.bias": block.feed_forward_norm.bias,
            "mlp.c_fc.weight": block.feed_forward.inner.weight.T,
            "mlp.c_fc.bias": block.feed_forward.inner.bias,
            "mlp.c_proj.weight": block.feed_forward.outer.weight.T,
            "mlp.c_proj.bias": block.feed_forward.outer.bias}.items()}
    peer.load_state_dict(state)
    x = torch.cat([ours.prefix(text), ours.picture(image[:, :-1])], dim=1)
    theirs = peer(inputs_embeds=x).logits[:, config.text_len:]
    torch.testing.assert_close(ours(text, image).image, theirs, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def peer():
    """dalle-pytorch without what the paper has not: rotations, shifted tokens."""
    theirs = dalle_pytorch()
    torch.manual_seed(0)
    vae = theirs.DiscreteVAE(image_size=16, num_layers=2, num_tokens=9, codebook_dim=8, hidden_dim=4)
    return theirs.DALLE(dim=16, vae=vae, num_text_tokens=12, text_seq_len=5, depth=1, heads=2, dim_head=8,
                        rotary_emb=False, shift_tokens=False, attn_types=("full",)).eval()


@pytest.mark.parity
def test_embeddings_are_those_of_dalle_pytorch(peer):
    ours, (text, image) = build(replace(TINY, layers=1)), batch()
    axes = [p.detach().view(4, 16) for p in peer.image_pos_emb.parameters()]
    with torch.no_grad():
        ours.words.weight.copy_(peer.text_emb.weight[:12])
        ours.padding.copy_(peer.text_emb.weight[12:])               # theirs are further words
        ours.positions.copy_(peer.text_pos_emb.weight[1:])
        ours.start.copy_(peer.text_emb.weight[0] + peer.text_pos_emb.weight[0])
        ours.codes.weight.copy_(peer.image_emb.weight)
        ours.rows.copy_(axes[0])
        ours.columns.copy_(axes[1])
    seen = []
    hook = peer.transformer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    peer(text, image)
    hook.remove()
    x = torch.cat([ours.prefix(text), ours.picture(image[:, :-1])], dim=1)
    torch.testing.assert_close(x, seen[0])


@pytest.mark.parity
def test_places_of_text_and_of_the_picture_have_scores_of_their_own_kind_and_the_weights_are_1_and_7(peer):
    text, image = batch()
    text = text.clamp_min(1)                                        # no padding, which theirs predicts too
    with torch.no_grad():
        logits = peer(text, image)
        loss = peer(text, image, return_loss=True)
    low = torch.finfo(logits.dtype).max / -2
    words = logits[0, :, :17] > low                                 # 12 words and 5 kinds of padding
    assert words[:5].all() and not words[5:].any()
    assert (logits[0, 5:, 17:] > low).all() and not (logits[0, :5, 17:] > low).any()
    text_nll = F.cross_entropy(logits[:, :5, :17].flatten(0, 1), text.flatten(), reduction="none")
    image_nll = F.cross_entropy(logits[:, 5:, 17:].mT, image, reduction="none")
    torch.testing.assert_close(dalle_loss(text_nll, image_nll), loss)


@pytest.mark.parity
def test_the_masks_of_dalle_pytorch_are_not_those_of_the_paper():
    theirs = dalle_pytorch().dalle_pytorch.Transformer(
        dim=16, depth=2, seq_len=20, heads=2, dim_head=8, attn_types=("axial_row", "conv_like"),
        image_fmap_size=4, rotary_emb=False).eval()
    x, row = torch.randn(1, 20, 16), theirs.layers.layers[0][0]
    with torch.no_grad():                                           # 5 places, then the picture's 16
        before, seen = row(x)[0, 5 + 6], []
        for j in range(15):
            changed = x.clone()
            changed[0, 5 + j] += torch.randn(16)
            seen += [j] if not torch.allclose(row(changed)[0, 5 + 6], before) else []
    from mmlearn.text2image.sparse_attention import image_mask
    ours = image_mask("row", 4)[6].nonzero()[:, 0].tolist()
    assert ours == [2, 3, 4, 5, 6] and seen == [4, 5, 6]            # theirs: the row alone


@pytest.mark.parametrize("stage", ["dvae", "vqgan"])
def test_a_first_stage_of_either_kind_gives_codes_and_dalle_draws_with_it(stage, tmp_path):
    torch.manual_seed(0)
    vqgan = VQGANConfig(AutoencoderConfig(8, (1, 2), 1, (), 4, groups=4), 9, 4)
    model = DVAE(STAGE) if stage == "dvae" else VQGAN(vqgan)
    codes = codes_of(model, torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8))
    assert codes.shape == (2, 16) and codes.max() < 9
    drawing = TokenDrawer.of(model, DALLE(replace(TINY, pad=WORDS.pad)).half().float(), WORDS)
    pictures = drawing.draw(["a red cat"], 2)
    assert pictures.shape == (2, 3, 8, 8) and pictures.abs().max() <= 1
    save_token_drawer(tmp_path / "model.safetensors", drawing, {})
    assert type(load_token_drawer(tmp_path / "model.safetensors").stage) is type(model)
