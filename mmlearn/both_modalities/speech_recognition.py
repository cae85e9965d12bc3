r"""Speech recognition by data2vec: one linear map reads letters off the frames, and CTC needs no alignment.

Papers: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, sec. 4.2 (fine-tuned as wav2vec 2.0 is:
A. Baevski et al., 2020, arXiv:2006.11477, sec. 3.2); A. Graves, S. Fernández, F. Gomez and J. Schmidhuber
(2006), *Connectionist Temporal Classification*, ICML.  Survey: 5.1.
Differs from the papers: letters are read greedily, without a language model; the loss is divided by the
letters of the batch.

Letters of shapes: b utterances, s samples, t frames, v letters of the alphabet, n letters of a text. Letter 0
is the blank, which stands between two letters and is not written.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec_speech import Data2VecSpeech, Data2VecSpeechConfig, real_frames
from mmlearn.nn.modes import eval_mode

BLANK = 0
ALPHABET = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")     # of the public weights
SIGNS = ("<pad>", "<s>", "</s>", "<unk>")               # that are not written; | is a space


# -------------------------------------------------------------------------------------------------- equations

def ctc_loss(
    logits: Float[Tensor, "b t v"], frames: Int[Tensor, " b"],
    texts: Int[Tensor, "b n"], letters: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:ctc: $-\frac1n\log\sum_{\pi:\,B(\pi)=y}\prod_t p_t(\pi_t)$, over all paths $\pi$ of one letter or
    blank a frame that read $y$; in nats per letter, $n$ being all letters of the batch.

    ``frames`` and ``letters`` say how many of a row are real. Infinite where a text has no path.
    """
    log_p = logits.log_softmax(dim=-1).transpose(0, 1)       # b t v -> t b v
    total = F.ctc_loss(log_p, texts, frames, letters, BLANK, "sum")
    return total / letters.sum()


def collapsed(path: Sequence[int]) -> list[int]:
    r"""eq:ctc-collapse: $y=B(\pi)$: what stands still is written once, then blanks are left out, so that two
    equal letters need a blank between them."""
    before = [BLANK, *path[:-1]]
    return [now for last, now in zip(before, path) if now not in (last, BLANK)]


# ------------------------------------------------------------------------------------------------------ model

class SpeechRecogniser(nn.Module):
    """Waveforms (b, s) -> logits of ``letters`` letters at each frame (b, t, v).

    ``real`` (b, s) says which samples exist, ``mask`` (b, t) which frames are hidden in training. The
    ``encoder`` is a ``Data2VecSpeech``, as a rule one that has been trained on speech without text.
    """

    def __init__(
        self, config: Data2VecSpeechConfig, letters: int = len(ALPHABET),
        dropout: float = 0.1
    ) -> None:
        super().__init__()
        if letters < 2:
            raise ValueError(f"an alphabet has {letters} letters; give a blank and one more at least")
        self.config = config
        self.encoder = Data2VecSpeech(config)
        self.dropout = nn.Dropout(dropout)
        self.letters = nn.Linear(config.width, letters)
        nn.init.normal_(self.letters.weight, std=0.02)
        nn.init.zeros_(self.letters.bias)

    def forward(
        self, waveforms: Float[Tensor, "b s"],
        real: Bool[Tensor, "b s"] | None = None,
        mask: Bool[Tensor, "r n"] | None = None
    ) -> Float[Tensor, "b t v"]:
        return self.letters(self.dropout(self.encoder(waveforms, mask, real)))


@torch.no_grad()
def read_letters(
    model: SpeechRecogniser, waveforms: Float[Tensor, "b s"], real: Bool[Tensor, "b s"] | None = None
) -> list[list[int]]:
    """The likeliest path of each utterance, collapsed (eq:ctc-collapse)."""
    with eval_mode(model) as device:
        best = model(waveforms.to(device), None if real is None else real.to(device)).argmax(dim=-1).cpu()
    keep = torch.ones_like(best).bool() if real is None else real_frames(real.cpu(), model.config)
    return [collapsed(path[frames].tolist()) for path, frames in zip(best, keep)]


def written(letters: Sequence[int], alphabet: Sequence[str] = ALPHABET) -> str:
    """Numbers of letters as a text; | is a space. Raises ``ValueError`` for numbers outside the alphabet."""
    if outside := [i for i in letters if not 0 <= i < len(alphabet)]:
        raise ValueError(f"letter {outside[0]} is none of an alphabet of {len(alphabet)}; give the alphabet "
                         "of the model")
    signs = [alphabet[i] for i in letters if alphabet[i] not in SIGNS]
    return "".join(signs).replace("|", " ").strip()


def transcribe(
    model: SpeechRecogniser, waveforms: Float[Tensor, "b s"], real: Bool[Tensor, "b s"] | None = None,
    alphabet: Sequence[str] = ALPHABET,
) -> list[str]:
    """What is said in normalised waveforms, read greedily."""
    return [written(letters, alphabet) for letters in read_letters(model, waveforms, real)]
