"""Public weights of data2vec for text: a stand-in in plain tensors, small ones that transformers writes, and
the tokeniser."""

import json

import pytest
import torch
import torch.nn.functional as F

import mmlearn.pretrained
from mmlearn.both_modalities.data2vec_text import Data2VecText, Data2VecTextClassifier, Data2VecTextConfig
from mmlearn.catalog import count_parameters
from mmlearn.pretrained.data2vec_text import config_of, open_data2vec_text, tokeniser_of

SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
             max_position_embeddings=14, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1)
TOKENS = torch.tensor([[0, 5, 6, 7, 8, 2], [0, 9, 10, 2, 1, 1]])


def stand_in(prefix="", pooler=True):
    """A checkpoint in plain tensors: every name of facebook/data2vec-text-base, 2 layers of 16."""
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: 0.2 * torch.randn(shape, generator=g)                               # noqa: E731
    state = {f"embeddings.{name}_embeddings.weight": draw(n, 16)
             for name, n in (("word", 40), ("position", 14), ("token_type", 1))}
    state["embeddings.position_ids"] = torch.arange(14)[None]

    def dense(name, out, into):
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(out, into), draw(out)

    def norm(name):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(16), draw(16)

    norm("embeddings.LayerNorm")
    for i in range(2):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            dense(f"{at}.attention.self.{part}", 16, 16)
        dense(f"{at}.attention.output.dense", 16, 16)
        norm(f"{at}.attention.output.LayerNorm")
        dense(f"{at}.intermediate.dense", 24, 16)
        dense(f"{at}.output.dense", 16, 24)
        norm(f"{at}.output.LayerNorm")
    if pooler:
        dense("pooler.dense", 16, 16)
    return {prefix + name: value for name, value in state.items()}


def write(folder, state, **more):
    torch.save(state, folder / "pytorch_model.bin")
    config = {"model_type": "data2vec-text", "hidden_act": "gelu", "mask_token_id": 39, **SIZES, **more}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_checkpoint_in_plain_tensors_gives_the_states_and_targets_of_plain_torch(tmp_path, capsys):
    """The layers are computed here from the tensors, by their published names, without any model."""
    state = stand_in()
    write(tmp_path, state)
    ours = mmlearn.pretrained.load(tmp_path)
    assert isinstance(ours, Data2VecText) and not ours.training
    assert "left out pooler.dense.bias, pooler.dense.weight" in capsys.readouterr().err
    left = ("pooler", "embeddings.position_ids")
    assert count_parameters(ours) == sum(v.numel() for name, v in state.items() if not name.startswith(left))

    def dense(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, (16,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    for row, n in ((0, 6), (1, 4)):                                  # without the padding
        of = "embeddings."
        x = norm(state[of + "word_embeddings.weight"][TOKENS[row, :n]]
                 + state[of + "position_embeddings.weight"][2 : 2 + n]
                 + state[of + "token_type_embeddings.weight"][0], of + "LayerNorm")
        targets = []
        for i in range(2):
            at = f"encoder.layer.{i}"
            q, k, v = (dense(x, f"{at}.attention.self.{part}").view(n, 4, 4).transpose(0, 1)
                       for part in ("query", "key", "value"))
            read = ((q @ k.mT / 2).softmax(dim=-1) @ v).transpose(0, 1).reshape(n, 16)
            x = norm(x + dense(read, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            targets.append(dense(F.gelu(dense(x, f"{at}.intermediate.dense")), f"{at}.output.dense"))
            x = norm(x + targets[-1], f"{at}.output.LayerNorm")
        with torch.no_grad():
            torch.testing.assert_close(ours(TOKENS)[row, :n], x, atol=1e-5, rtol=1e-5)
            for found, want in zip(ours.layers(TOKENS), targets, strict=True):
                torch.testing.assert_close(found[row, :n], want, atol=1e-5, rtol=1e-5)


def test_the_published_settings_are_the_base_size():
    published = {"attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2,
                 "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
                 "intermediate_size": 3072, "layer_norm_eps": 1e-05, "mask_token_id": 50264,
                 "max_position_embeddings": 514,
                 "model_type": "data2vec-text", "num_attention_heads": 12, "num_hidden_layers": 12,
                 "pad_token_id": 1, "position_embedding_type": "absolute", "type_vocab_size": 1,
                 "vocab_size": 50265}
    assert config_of(published, "config.json") == Data2VecTextConfig.base()


@pytest.mark.parity
def test_folders_that_transformers_writes_give_its_states_and_its_classes(tmp_path, capsys):
    import transformers

    torch.manual_seed(0)
    config = transformers.Data2VecTextConfig(**SIZES, num_labels=3)
    theirs = transformers.Data2VecTextForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = mmlearn.pretrained.load(tmp_path)
    assert "left out classifier.dense.bias" in capsys.readouterr().err
    real = TOKENS != 1
    with torch.no_grad():
        want = theirs(TOKENS, attention_mask=real.long(), output_hidden_states=True)
        states = ours(TOKENS)
    torch.testing.assert_close(states[real], want.hidden_states[-1][real], atol=1e-5, rtol=1e-5)
    whole = mmlearn.pretrained.load(tmp_path, classes=True)
    assert isinstance(whole, Data2VecTextClassifier) and "left out" not in capsys.readouterr().err
    with torch.no_grad():
        torch.testing.assert_close(whole(TOKENS), want.logits, atol=1e-5, rtol=1e-5)


def test_a_model_under_a_language_models_head_is_read_without_it(tmp_path, capsys):
    state = stand_in("data2vec_text.", pooler=False)
    write(tmp_path, {**state, "lm_head.bias": torch.zeros(40)})
    ours = mmlearn.pretrained.load(tmp_path)
    assert "left out lm_head.bias" in capsys.readouterr().err
    torch.testing.assert_close(ours.bert.embed.words.weight,
                               state["data2vec_text.embeddings.word_embeddings.weight"])


@pytest.mark.parametrize("change, message", [
    ({"type_vocab_size": 2}, "says type_vocab_size = 2, this reader knows 1 only"),
    ({"hidden_act": "relu"}, "says hidden_act = 'relu'"),
    ({"pad_token_id": 77}, "pad_token_id is 77, expected a whole number below the 40 tokens"),
    ({"hidden_size": 15}, "num_attention_heads|heads"),
    ({"mask_token_id": 1}, "mask is 1, with a vocabulary of 40 and padding 1"),
    ({"num_hidden_layers": 3}, "missing: encoder.layer.2.attention.output.LayerNorm.bias"),
])
def test_settings_that_do_not_fit_are_refused(tmp_path, change, message):
    write(tmp_path, stand_in(), **change)
    with pytest.raises(ValueError, match=message):
        mmlearn.pretrained.load(tmp_path)


def test_a_missing_tensor_and_missing_files_are_refused_by_name(tmp_path):
    state = stand_in()
    del state["encoder.layer.1.output.dense.bias"]
    write(tmp_path, state)
    with pytest.raises(ValueError, match="missing: encoder.layer.1.output.dense.bias"):
        mmlearn.pretrained.load(tmp_path)
    with pytest.raises(ValueError, match="has no classifier.out_proj.weight"):
        mmlearn.pretrained.load(tmp_path, classes=True)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="a configuration but none of"):
        mmlearn.pretrained.load(tmp_path)


# ---------------------------------------------------------------------------------------------- the tokeniser

WORDS = ["low lower lowest", "a new newer newest thing", "wide wider widest", "the lower the newer"]


def write_tokeniser(folder):
    """Files in RoBERTa's form, with its ids of special tokens: <s> <pad> </s> <unk> … <mask>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.train_from_iterator(WORDS, trainers.BpeTrainer(
        vocab_size=300, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    learned = json.loads(inner.to_str())["model"]
    vocab = {**learned["vocab"], "<mask>": len(learned["vocab"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    return len(vocab)


@pytest.mark.parity
def test_the_tokeniser_gives_the_ids_of_transformers(tmp_path):
    from transformers import RobertaTokenizer

    write_tokeniser(tmp_path)
    ours = tokeniser_of(tmp_path)
    lines = (tmp_path / "merges.txt").read_text().splitlines()[1:]
    theirs = RobertaTokenizer(vocab=json.loads((tmp_path / "vocab.json").read_text()),
                              merges=[tuple(line.split(" ")) for line in lines])
    texts = ["a lower thing", "the widest, newest é!", ""]
    assert torch.equal(ours.batch(texts), theirs(texts, padding=True, return_tensors="pt")["input_ids"])
    assert (ours.bos, ours.pad, ours.eos, ours.unk) == (0, 1, 2, 3)
    assert ours.decode(ours.batch(texts)[1]) == texts[1]


def test_model_and_tokeniser_open_together_and_must_fit(tmp_path):
    size = write_tokeniser(tmp_path)
    state = stand_in()
    write(tmp_path, state)
    with pytest.raises(ValueError, match=f"has {size} tokens, the model 40; the files do not belong"):
        open_data2vec_text(tmp_path)
    state["embeddings.word_embeddings.weight"] = 0.2 * torch.randn(size, 16)
    write(tmp_path, state, vocab_size=size, mask_token_id=size - 1)
    model, tokeniser = open_data2vec_text(tmp_path)
    with torch.no_grad():
        assert model(tokeniser.batch(["the lowest"], 12)).shape[-1] == 16
