"""Letters from frames: CTC by all paths, by hand, and as transformers has it."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from networks import numbers, stirred

from mmlearn.both_modalities.data2vec_speech import Data2VecSpeechConfig, normalised_waveform
from mmlearn.both_modalities.speech_recognition import (
    ALPHABET,
    SpeechRecogniser,
    collapsed,
    ctc_loss,
    read_letters,
    transcribe,
    written,
)
from mmlearn.data.voices import speak
from mmlearn.nn.modes import seeded

TINY = Data2VecSpeechConfig(8, (5, 3, 2), (3, 2, 2), 12, 2, 3, 20, 2, 5, 4)


def letters_of(path):
    """What a path reads, letter by letter."""
    read, last = [], None
    for letter in path:
        if letter != last and letter != 0:
            read.append(letter)
        last = letter
    return read


@pytest.mark.equation("eq:ctc")
def test_the_loss_sums_over_all_paths_that_read_the_text():
    logits, texts = numbers(2, 4, 3), torch.tensor([[1, 2], [2, 2]])
    frames, letters = torch.tensor([4, 3]), torch.tensor([2, 2])
    total = 0.0
    for i in range(2):
        p = logits[i].softmax(dim=-1)
        paths = itertools.product(range(3), repeat=int(frames[i]))
        total += math.log(sum(math.prod(p[t, letter].item() for t, letter in enumerate(path))
                              for path in paths if letters_of(path) == texts[i].tolist()))
    found = ctc_loss(logits, frames, texts, letters)
    torch.testing.assert_close(found, torch.tensor(-total / 4).double())
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, frames, texts, letters), logits.requires_grad_())
    impossible = ctc_loss(logits.detach(), torch.tensor([2, 2]), texts, letters)
    assert impossible == math.inf                           # two equal letters need three frames


@pytest.mark.equation("eq:ctc-collapse")
def test_a_path_is_read_without_repeats_and_blanks():
    for path in itertools.product(range(3), repeat=5):
        assert collapsed(path) == letters_of(path)
    assert collapsed([]) == [] and collapsed([0, 3, 3, 0, 3, 5]) == [3, 3, 5]


def test_letters_are_written_and_others_refused():
    ids = [ALPHABET.index(letter) for letter in "|HELLO|THERE|"]
    assert written([1, *ids, 2]) == "HELLO THERE"
    with pytest.raises(ValueError, match="letter 40 is none of an alphabet of 32"):
        written([40])
    with pytest.raises(ValueError, match="has 1 letters"):
        SpeechRecogniser(TINY, 1)


def test_a_padded_batch_reads_what_each_utterance_reads_alone():
    with seeded(0):
        model = stirred(SpeechRecogniser(TINY, 9), seed=None, scale=0.5).eval()
    x, real = numbers(2, 300).float(), torch.arange(300) < torch.tensor([[300], [130]])
    together = read_letters(model, x * real, real)
    assert together == [read_letters(model, x[:1])[0], read_letters(model, x[1:, :130])[0]]
    assert any(together) and model(x).shape == (2, TINY.frames(300), 9)
    model.train()
    read_letters(model, x)
    assert model.training


def test_a_handful_of_spoken_words_is_read():
    words = ["red", "moon"]
    alphabet = ["<pad>", *sorted(set("".join(words)))]
    config = replace(Data2VecSpeechConfig.mini(), layers=1, ff=128, channels=16)
    with seeded(0):
        model = SpeechRecogniser(config, len(alphabet), dropout=0.0)
    x = normalised_waveform(speak(words, seeds=1, seconds=0.4))
    texts = torch.tensor([[alphabet.index(letter) for letter in word.ljust(4, "r")] for word in words])
    lengths = torch.tensor([len(word) for word in words])
    frames = torch.full((2,), config.frames(x.shape[1]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(600):                                    # for 200 steps blanks are all that it says
        loss = ctc_loss(model(x), frames, texts, lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    assert transcribe(model, x, alphabet=alphabet) == words


@pytest.mark.parity
def test_texts_are_those_of_transformers_tokeniser(tmp_path):
    from transformers import Wav2Vec2CTCTokenizer

    file = tmp_path / "vocab.json"
    file.write_text(json.dumps({letter: i for i, letter in enumerate(ALPHABET)}))
    theirs = Wav2Vec2CTCTokenizer(str(file))
    g = torch.Generator().manual_seed(0)
    for path in torch.randint(4, 32, (20, 30), generator=g):
        path = torch.where(torch.rand(30, generator=g) < 0.4, 0, path)
        assert written(collapsed(path.tolist())) == theirs.decode(path.tolist()).strip()
