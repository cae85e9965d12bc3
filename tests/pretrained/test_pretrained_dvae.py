"""The public weights of the dVAE: whole pickled modules, state dicts and FLAVA's encoder; nothing is run."""

import os
import pickle
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from networks import stirred
from oracles import dall_e
from torch import nn

from mmlearn.pretrained import READERS, load
from mmlearn.pretrained.dvae import MARK, as_published, fetch, from_flava, public_name, read_module
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAEDecoder, DVAEEncoder

TINY = DVAEConfig(vocab=512, width=64, code_width=16, blocks=1)


def peers(seed=0, blocks=1):
    """Encoder and decoder of the PyPI package, as small as it allows, with residual branches that count."""
    theirs = dall_e()
    torch.manual_seed(seed)
    sizes = {"n_hid": 64, "n_blk_per_group": blocks, "vocab_size": 512}
    pair = theirs.Encoder(**sizes), theirs.Decoder(n_init=16, **sizes)
    return tuple(stirred(part, seed=None, scale=0.05) for part in pair)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The two files as OpenAI published them: whole modules."""
    path = tmp_path_factory.mktemp("dvae")
    for part, name in zip(peers(), ("encoder", "decoder")):
        torch.save(part, path / f"{name}.pkl")
    return path


# ---------------------------------------------------------------------------------------------- whole modules

@pytest.mark.parity
def test_a_folder_of_whole_modules_becomes_a_dvae_whose_outputs_are_theirs_bit_for_bit(folder):
    encoder, decoder = peers()
    model = load(folder)
    assert isinstance(model, DVAE) and not model.training
    assert model.config == TINY
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.encoder(x), encoder(x))
    y = model.encoder(x).softmax(1)
    assert torch.equal(torch.cat(model.decoder(y), 1), decoder(y))
    tokens = model.encoder(x).argmax(1)
    one_hot = F.one_hot(tokens, 512).movedim(-1, 1).float()
    torch.testing.assert_close(torch.cat(model.decoder.of_tokens(tokens), 1), decoder(one_hot),
                               atol=1e-6, rtol=1e-6)


@pytest.mark.parity
def test_one_file_becomes_one_part(folder, tmp_path):
    x = torch.rand(1, 3, 16, 16)
    part = load(folder / "encoder.pkl")
    assert isinstance(part, DVAEEncoder) and torch.equal(part(x), peers()[0](x))
    assert isinstance(load(folder / "decoder.pkl"), DVAEDecoder)
    renamed = tmp_path / "encoder.pt"                           # a module under another file's name
    renamed.write_bytes((folder / "encoder.pkl").read_bytes())
    assert isinstance(load(renamed), DVAEEncoder)


@pytest.mark.parity
def test_the_tensors_of_a_module_are_its_state_dict(folder):
    ours = read_module(folder / "encoder.pkl")
    theirs = peers()[0].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parity
@pytest.mark.parametrize("blocks", [1, 2])
def test_every_name_of_theirs_is_one_of_ours(blocks):
    config = DVAEConfig(vocab=512, width=64, code_width=16, blocks=blocks)
    for part, ours in zip(peers(blocks=blocks), (DVAEEncoder(config), DVAEDecoder(config))):
        shapes = {name: value.shape for name, value in part.state_dict().items()}
        assert {public_name(name): value.shape for name, value in ours.state_dict().items()} == shapes


# ----------------------------------------------------------------------------------------------- state dicts

@pytest.mark.parity
@pytest.mark.parametrize("name", ["encoder.pkl", "encoder.pt"])
def test_a_plain_state_dict_is_read_too(name, tmp_path):
    encoder = peers()[0]
    torch.save(encoder.state_dict(), tmp_path / name)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(load(tmp_path / name)(x), encoder(x))


@pytest.mark.parity
@pytest.mark.parametrize("prefix", ["", "image_codebook."])
def test_flavas_codebook_is_our_encoder(prefix, tmp_path):
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    torch.manual_seed(0)
    theirs = FlavaImageCodebook(FlavaImageCodebookConfig(
        hidden_size=64, num_blocks_per_group=1, vocab_size=512)).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(std=0.05)
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    torch.save(state, tmp_path / "flava.pt")
    ours = load(tmp_path / "flava.pt")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs.blocks(x), atol=1e-6, rtol=1e-6)
    assert torch.equal(ours(x).argmax(1), theirs.get_codebook_indices(x))


def test_names_are_the_authors_whoever_changed_them():
    assert from_flava("image_codebook.blocks.group_1.group.block_1.res_path.path.conv_1.weight") == MARK
    assert public_name("groups.0.0.convs.0.weight") == MARK
    two = {"a.weight": torch.ones(1), "a.w": torch.ones(1)}
    assert as_published(two).keys() == two.keys()


# -------------------------------------------------------------------------------------------------- refusals

class Call:
    """Pickled, a call of ``function``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Elsewhere:
    """A class of a module that is no part of the dVAE."""


def attacks(proof):
    """Names, and what would write the file ``proof`` if it were run."""
    return {"system": Call(os.system, f"touch {proof}"), "eval": Call(eval, f"open({str(proof)!r}, 'w')"),
            "getattr": Call(getattr, "", "join"), "open": Call(open, str(proof), "w"),
            "Elsewhere": Elsewhere(), "Linear": nn.Linear(2, 2)}


@pytest.mark.parametrize("name", ["system", "eval", "getattr", "open", "Elsewhere", "Linear"])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a module"])
def test_a_file_that_names_anything_else_is_refused_and_nothing_of_it_is_run(name, inside, tmp_path):
    proof = tmp_path / "was-run"
    content = attacks(proof)[name]
    if inside:
        module = peers()[0]
        module.extra = content
        content = module
    torch.save(content, tmp_path / "encoder.pkl")
    with pytest.raises(ValueError) as caught:
        load(tmp_path / "encoder.pkl")
    message = str(caught.value)
    assert name in message and "which is no part of a dVAE, and nothing of it was run" in message
    assert "\n" not in message and not proof.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_plain_pickle_is_refused_without_running_it(protocol, tmp_path):
    proof = tmp_path / "was-run"
    (tmp_path / "encoder.pkl").write_bytes(pickle.dumps(Call(os.system, f"touch {proof}"), protocol))
    with pytest.raises(ValueError, match="cannot be read as a module|no part of a dVAE") as caught:
        load(tmp_path / "encoder.pkl")
    assert "\n" not in str(caught.value) and not proof.exists()


def test_a_call_of_an_inert_class_does_nothing_and_gives_no_weights(tmp_path):
    torch.save(torch.device("cpu"), tmp_path / "encoder.pkl")
    with pytest.raises(ValueError, match="the whole is no module with weights"):
        load(tmp_path / "encoder.pkl")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half an archive"])
def test_a_damaged_file_is_a_sentence(content, tmp_path):
    (tmp_path / "encoder.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"encoder.pkl cannot be read as a module of the dVAE") as caught:
        load(tmp_path / "encoder.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parity
def test_a_module_in_the_format_of_old_is_refused_with_a_remedy(tmp_path):
    torch.save(peers()[0], tmp_path / "encoder.pkl", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="before 1.6, which holds source code; where it may be trusted"):
        load(tmp_path / "encoder.pkl")


def state_of(part=DVAEEncoder):
    torch.manual_seed(0)
    return {public_name(name): value for name, value in part(TINY).state_dict().items()}


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("blocks.output.conv.b"), "missing: blocks.output.conv.b"),
    (lambda s: s.update({"blocks.more.w": torch.ones(1)}), "not expected: blocks.more.w"),
    (lambda s: s.update({"blocks.input.b": torch.ones(3)}), r"blocks.input.b is \(3,\), expected \(64,\)"),
    (lambda s: s.pop("blocks.input.w"), "has no blocks.input.w; the file is not whole"),
    (lambda s: s["blocks.input.b"].fill_(float("nan")), "blocks.input.b holds nan"),
    (lambda s: s.update({"blocks.input.b": torch.ones(64).long()}), "weights are real numbers")])
def test_weights_that_do_not_fit_are_named(change, message, tmp_path):
    state = state_of()
    change(state)
    torch.save(OrderedDict(state), tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "encoder.pt")


def test_two_parts_of_different_models_or_of_one_kind_are_refused(tmp_path):
    torch.save(state_of(), tmp_path / "encoder.pkl")
    other = DVAEDecoder(DVAEConfig(vocab=300, width=64, code_width=16, blocks=1)).state_dict()
    torch.save({public_name(name): value for name, value in other.items()}, tmp_path / "decoder.pkl")
    with pytest.raises(ValueError, match="encoder and decoder differ in vocab"):
        load(tmp_path)
    torch.save(state_of(), tmp_path / "decoder.pkl")
    with pytest.raises(ValueError, match="are not one encoder and one decoder"):
        load(tmp_path)


def test_erratum_e27_the_public_names_are_registered_and_say_where_the_files_are():
    assert READERS["openai/DALL-E"] == READERS["facebook/flava-image-codebook"] == "dvae"
    with pytest.raises(FileNotFoundError, match="get encoder.pkl and decoder.pkl by the links in the README"):
        fetch("openai/DALL-E")
