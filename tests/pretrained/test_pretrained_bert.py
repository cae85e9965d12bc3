"""Public weights of BERT's family: real ones, those of MiniLM, and small ones that transformers writes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmlearn.pretrained
from mmlearn.catalog import count_parameters
from mmlearn.nn.bert import BERT
from mmlearn.pretrained.bert import MINILM, fetch, open_bert, tokeniser_of

SENTENCES = [
    "A man is eating a piece of bread.",
    "Ein Mädchen trägt ein rotes Kleid!",
    "The stock market fell, didn't it?",
    "A person eats some food.",
    "",
]
SIZES = dict(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
)


@pytest.fixture(scope="module")
def minilm():
    return open_bert()


@pytest.mark.parity
def test_the_real_weights_of_minilm_give_transformers_states(minilm):
    from transformers import BertModel

    ours, tokeniser = minilm
    theirs = BertModel.from_pretrained(fetch(MINILM)).eval()
    tokens = tokeniser.batch(SENTENCES)
    with torch.no_grad():
        states = ours(tokens)
        want = theirs(tokens, attention_mask=(tokens != 0).long())
    real = tokens != 0
    assert count_parameters(ours) == 22_713_216 and not ours.training
    torch.testing.assert_close(states[real], want.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.pooled(states), want.pooler_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_minilms_tokeniser_gives_transformers_ids_from_either_of_its_files(minilm):
    from transformers import AutoTokenizer

    from mmlearn.data.tokenisers import WordPieceTokeniser

    folder, tokeniser = fetch(MINILM), minilm[1]
    want = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")["input_ids"]
    assert torch.equal(tokeniser.batch(SENTENCES), want)
    # the file asks for 128 tokens, padded; a batch is as long as its longest text
    assert torch.equal(WordPieceTokeniser.load(folder / "tokenizer.json").batch(SENTENCES), want)


@torch.no_grad()
def test_sentences_of_one_meaning_lie_together(minilm):
    model, tokeniser = minilm
    tokens = tokeniser.batch(SENTENCES[:4])
    mask = (tokens != 0)[..., None]
    means = torch.nn.functional.normalize((model(tokens) * mask).sum(1) / mask.sum(1), dim=-1)
    near = (means @ means.T)[0]
    assert near[3] > 0.5 > near[2]


def small(**more):
    from transformers import BertConfig

    torch.manual_seed(0)
    return BertConfig(**SIZES, **more)


def agree(ours, theirs):
    tokens = torch.randint(1, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("pooler", [True, False])
def test_a_folder_that_transformers_writes_gives_its_states(tmp_path, pooler):
    from transformers import BertModel

    theirs = BertModel(small(), add_pooling_layer=pooler).eval()
    theirs.save_pretrained(tmp_path)
    ours = mmlearn.pretrained.load(tmp_path)
    assert isinstance(ours, BERT) and ours.config.pooler == pooler
    agree(ours, theirs)


@pytest.mark.parity
def test_a_model_with_a_head_and_names_of_2018_in_parts_gives_its_states(tmp_path, capsys):
    from transformers import BertForPreTraining

    theirs = BertForPreTraining(small()).eval()
    theirs.save_pretrained(tmp_path)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.clone()
        for name, value in theirs.state_dict().items()
    }
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    where = {name: f"pytorch_model-{1 + i % 2}.bin" for i, name in enumerate(names)}
    for file in set(where.values()):
        torch.save({name: state[name] for name in names if where[name] == file}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    agree(mmlearn.pretrained.load(tmp_path), theirs.bert)
    assert "left out cls.predictions.bias" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    from transformers import BertModel

    BertModel(small()).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parity
@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_act": "relu"}, "config.json says hidden_act = 'relu'"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"layer_norm_eps": -1}, r"config.json: layer_norm_eps is -1.0, expected from 0 to 1"),
        ({"hidden_size": 10**30}, "hidden_size is 1000.*expected from 1 to 10,000,000"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, which does not divide width 16"),
        ({"vocab_size": "40"}, "vocab_size is '40', expected a whole number"),
        ({"num_hidden_layers": 3}, "does not fit the model; missing: encoder.layer.2"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_its_own_name(folder, fields, message):
    rewrite(folder, **fields)
    with pytest.raises(ValueError, match=message):
        mmlearn.pretrained.load(folder)


@pytest.mark.parity
def test_weights_that_are_not_finite_are_refused(folder):
    state = load_file(folder / "model.safetensors")
    state["pooler.dense.bias"] = torch.full((16,), float("nan"))
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: pooler\.dense\.bias holds nan"):
        mmlearn.pretrained.load(folder)


@pytest.mark.parity
def test_a_tokeniser_longer_than_the_model_and_none_at_all_are_refused(folder):
    with pytest.raises(FileNotFoundError, match="has neither vocab.txt nor tokenizer.json"):
        tokeniser_of(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(50))]
    (folder / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ValueError, match="has 55 tokens, the model 40"):
        open_bert(folder)
