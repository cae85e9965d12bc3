"""Pages packed in rows: the same losses and gradients as page by page, and no page sees another."""

import pytest
import torch

from mmlearn.both_modalities.flamingo import Flamingo
from mmlearn.both_modalities.flamingo_training import mini_config
from mmlearn.both_modalities.interleaved import (
    BindingBatches,
    Blind,
    Example,
    PageBatches,
    collate_pages,
    interleaved_objective,
    look_at_features,
)
from mmlearn.both_modalities.language_model import all_examples, lm_tokeniser
from mmlearn.both_modalities.packing import first_fit, pack_pages, packed_losses, packs
from mmlearn.data.pairs import class_pictures, scene_pairs
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded

DATA, THINGS = scene_pairs(12), class_pictures(150, "train")
WORDS = lm_tokeniser(DATA)
g = torch.Generator().manual_seed(0)
LOOK, LOOK_AT_THINGS = (look_at_features(torch.randn(len(data), 4, 8, generator=g))
                        for data in (DATA, THINGS))


def flamingo(positions="rotary", **options):
    """A small Flamingo whose gates are open."""
    with seeded(0):
        lm = CausalLM(CausalLMConfig(len(WORDS), 128, 16, 2, 4, 32, positions, "gelu"))
        model = Flamingo(mini_config(lm, 8, **options), lm)
        for name, parameter in model.adapter.named_parameters():
            if "gate" in name or name == "end":
                torch.nn.init.normal_(parameter)
    return model


def batches(ahead=0.0):
    pages = PageBatches(all_examples(DATA), WORDS, LOOK, 7, most=4, ahead=ahead, seed=1)
    return {"pages": pages[2], "bindings": BindingBatches(THINGS, WORDS, LOOK_AT_THINGS, 4, seed=1)[2]}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options, positions, ahead", [
    ({}, "rotary", 0.0), ({"sees": "all"}, "rotary", 0.5), ({"gated": False}, "alibi", 0.5),
    ({}, "relative", 0.0)])
def test_losses_and_gradients_of_packed_pages_are_those_of_page_by_page(options, positions, ahead):
    model, batch = flamingo(positions, **options), batches(ahead)
    plain = {name: interleaved_objective(model, part)[0] for name, part in batch.items()}
    packed = packed_losses(model, batch)
    torch.testing.assert_close(packed, plain)
    slopes = (gradients(model, sum(losses.values())) for losses in (packed, plain))
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-4)


def test_rows_are_filled_from_the_longest_page_on():
    assert first_fit([2, 9, 0, 5, 4, 3], 10) == [[1], [3, 4], [5, 0]]
    assert first_fit([4], 4) == [[0]]


def test_a_row_has_the_pages_up_to_their_last_scored_token_and_their_pictures():
    pages = [[Example("Output:", "dax", 5), Example("Output:", "wug", 6)], [Example("Output:", "a", 7)],
             [Example("Output:", "a")]]
    batch = collate_pages(pages, WORDS, lambda numbers: numbers[:, None].float(), answers_only=True)
    packed = pack_pages([batch])
    assert packed.pictures[:, 0].tolist() == [5, 6, 7]              # none where a page has fewer
    # <bos>, then <image>, "output", the word, <EOC> for each; the last <EOC> is foretold and not read
    assert packed.page.tolist() == [[1] * 8, [2] * 4 + [3] * 3 + [0]]
    assert packed.phi.tolist() == [[0, 1, 1, 1, 1, 2, 2, 2], [0, 1, 1, 1, 0, 0, 0, 0]]
    assert packed.slots.tolist() == [[0, 1], [2, 0]] and packed.owner.tolist() == [[1, 1], [2, 0]]
    dax, wug, a = (WORDS.encode(word)[0] for word in ("dax", "wug", "a"))
    assert packed.targets.tolist() == [dax, WORDS.eos, wug, WORDS.eos, a, WORDS.eos, a, WORDS.eos]


def test_pages_without_pictures_and_a_single_set():
    model = flamingo()
    batch = {"texts": collate_pages([[Example("Output:", "a cat")], [Example("Output:", "a")]], WORDS, LOOK)}
    torch.testing.assert_close(packed_losses(model, batch)["texts"],
                               interleaved_objective(model, batch["texts"])[0])


def test_only_models_that_know_distances_are_packed_for():
    assert packs(flamingo()) and not packs(flamingo("learned"))
    assert not packs(Blind(flamingo().language))
