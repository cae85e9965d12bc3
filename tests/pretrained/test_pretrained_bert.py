"""Public weights of BERT's family: real ones, those of MiniLM, and small ones that transformers writes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmlearn.pretrained
from mmlearn.catalog import count_parameters
from mmlearn.images_for_language.bert import BERTForPreTraining
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
    whole = mmlearn.pretrained.load(tmp_path, heads=True)
    assert isinstance(whole, BERTForPreTraining) and "left out" not in capsys.readouterr().err
    same_scores(whole, theirs)


def same_scores(ours, theirs):
    tokens = torch.randint(1, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    kinds = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 2)
    with torch.no_grad():
        want = theirs(tokens, token_type_ids=kinds)
        scores = ours(tokens, segments=kinds)
    words = want.prediction_logits if ours.pairs is not None else want.logits
    torch.testing.assert_close(scores.words, words, atol=1e-5, rtol=1e-5)
    if ours.pairs is not None:
        torch.testing.assert_close(scores.pairs, want.seq_relationship_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("activation, form", [("gelu", "erf"), ("gelu_new", "tanh")])
def test_heads_are_read_with_the_gelu_that_the_file_names(tmp_path, activation, form):
    from transformers import BertForMaskedLM, BertForPreTraining

    for kind, pairs in ((BertForPreTraining, True), (BertForMaskedLM, False)):
        theirs = kind(small(hidden_act=activation)).eval()
        with torch.no_grad():
            theirs.cls.predictions.bias.normal_()
        theirs.save_pretrained(tmp_path)                                 # the matrix stands there once
        ours = mmlearn.pretrained.load(tmp_path, heads=True)
        assert (ours.pairs is not None) == (ours.bert.pooler is not None) == pairs
        assert ours.config.gelu == form
        same_scores(ours, theirs)


def stand_in(pooler=True):
    """A checkpoint of 2018 in plain tensors: every name of google-bert/bert-base-uncased, 2 layers of 16."""
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: 0.2 * torch.randn(shape, generator=g)                               # noqa: E731
    state = {f"bert.embeddings.{name}_embeddings.weight": draw(n, 16)
             for name, n in (("word", 40), ("position", 12), ("token_type", 2))}

    def dense(name, out, into):
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(out, into), draw(out)

    def norm(name):
        state[f"{name}.gamma"], state[f"{name}.beta"] = 1 + draw(16), draw(16)

    norm("bert.embeddings.LayerNorm")
    for i in range(2):
        at = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            dense(f"{at}.attention.self.{part}", 16, 16)
        dense(f"{at}.attention.output.dense", 16, 16)
        norm(f"{at}.attention.output.LayerNorm")
        dense(f"{at}.intermediate.dense", 24, 16)
        dense(f"{at}.output.dense", 16, 24)
        norm(f"{at}.output.LayerNorm")
    dense("bert.pooler.dense", 16, 16)
    dense("cls.predictions.transform.dense", 16, 16)
    norm("cls.predictions.transform.LayerNorm")
    state["cls.predictions.bias"] = draw(40)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    dense("cls.seq_relationship", 2, 16)
    return state


def write(folder, state):
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **SIZES}))


def test_a_checkpoint_of_2018_in_plain_tensors_gives_the_scores_of_plain_torch(tmp_path):
    """The layers are computed here from the tensors, by their published names, without any model."""
    import torch.nn.functional as F

    state = stand_in()
    write(tmp_path, state)
    ours = mmlearn.pretrained.load(tmp_path, heads=True)
    assert count_parameters(ours) == sum(v.numel() for v in state.values()) - 40 * 16        # the copy

    def dense(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, (16,), state[f"{name}.gamma"], state[f"{name}.beta"], 1e-12)

    tokens = torch.tensor([[2, 9, 11, 3, 8, 3]])
    kinds = torch.tensor([[0, 0, 0, 0, 1, 1]])
    of = "bert.embeddings."
    x = norm(state[of + "word_embeddings.weight"][tokens[0]] + state[of + "position_embeddings.weight"][:6]
             + state[of + "token_type_embeddings.weight"][kinds[0]], of + "LayerNorm")
    for i in range(2):
        at = f"bert.encoder.layer.{i}"
        q, k, v = (dense(x, f"{at}.attention.self.{part}").view(6, 4, 4).transpose(0, 1)
                   for part in ("query", "key", "value"))
        read = ((q @ k.mT / 2).softmax(dim=-1) @ v).transpose(0, 1).reshape(6, 16)
        x = norm(x + dense(read, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = F.gelu(dense(x, f"{at}.intermediate.dense"))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    h = norm(F.gelu(dense(x, "cls.predictions.transform.dense")), "cls.predictions.transform.LayerNorm")
    words = h @ state[of + "word_embeddings.weight"].T + state["cls.predictions.bias"]
    pairs = dense(torch.tanh(dense(x[:1], "bert.pooler.dense")), "cls.seq_relationship")
    with torch.no_grad():
        scores = ours(tokens, segments=kinds)
    torch.testing.assert_close(scores.words[0], words, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.pairs, pairs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change, message", [
    (lambda s: s["cls.predictions.decoder.weight"].add_(1), "decoder.weight differs from embeddings.word_e"),
    (lambda s: s.update({"cls.predictions.decoder.bias": torch.zeros(40)}), "decoder.bias differs from cls"),
    (lambda s: s.pop("cls.predictions.bias"), "holds no heads of pre-training"),
    (lambda s: s.pop("cls.predictions.transform.dense.bias"), "missing: cls.predictions.transform.dense.b"),
])
def test_heads_that_are_not_berts_are_refused_by_their_names(tmp_path, change, message):
    state = stand_in()
    change(state)
    write(tmp_path, state)
    with pytest.raises(ValueError, match=message):
        mmlearn.pretrained.load(tmp_path, heads=True)


def test_a_file_without_scores_of_pairs_gives_a_model_without_and_says_what_it_leaves_out(tmp_path, capsys):
    state = stand_in()
    for name in ("cls.seq_relationship.weight", "cls.seq_relationship.bias"):
        state.pop(name)
    write(tmp_path, state)
    assert mmlearn.pretrained.load(tmp_path, heads=True).pairs is None
    assert "left out pooler.dense.bias, pooler.dense.weight, which nothing reads" in capsys.readouterr().err


@pytest.mark.parity
def test_words_that_people_find_alike_lie_together_in_minilm(minilm):
    """The word alone as a text; WordSim-353 as gensim has it in its package."""
    import gensim

    from mmlearn.data.wordpiece import WordPiece
    from mmlearn.images_for_language.contextual import contextual_vectors
    from mmlearn.metrics.similarity import evaluate_pairs, read_pairs

    model, tokeniser = minilm
    pieces = WordPiece(tokeniser.words)
    pairs = read_pairs(Path(gensim.__file__).parent / "test" / "test_data" / "wordsim353.tsv")
    texts = sorted({word.lower() for word in (*pairs.first, *pairs.second)})
    assert [pieces.encode(text) for text in SENTENCES] == [tokeniser.encode(text) for text in SENTENCES]
    found = [evaluate_pairs(vectors, pairs) for vectors in contextual_vectors(model, pieces, texts, most=1)]
    assert len(found) == 7 and all(layer["covered"] == 353 for layer in found)
    print([round(layer["spearman"], 3) for layer in found])
    assert found[-1]["spearman"] > 0.5


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
