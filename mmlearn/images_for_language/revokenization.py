r"""Revokenization: vokens that were given to the tokens of one tokeniser, carried over to those of another.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 3 (RoBERTa's tokens get the
vokens of BERT's); github.com/airsplay/vokenization (MIT), whose released scripts build this part and do not
call it.  Survey: 3.5.1.
Differs from the paper: the text that both tokenisers read is put together from the tokens themselves, so that
their places in it are known; the released code tokenises it again, and cuts or repeats tokens where another
number comes out. A token whose characters no source token touches gets the voken of the next one.

Letters: $A$ and $B$ are sets of characters, those of a source token and those of a target token.
"""

from collections.abc import Callable, Sequence

from mmlearn.data.clip_tokeniser import byte_letters
from mmlearn.data.tokenisers import BPETokeniser, Tokeniser, WordPieceTokeniser

Span = tuple[int, int]                  # of a token's characters: the first, and the one behind the last
Vokenise = Callable[[list[list[int]]], list[list[int]]]
PIECE = "##"                            # stands before a piece that goes on with a word


# ------------------------------------------------------------------------------------------ equations


def overlap(a: Span, b: Span) -> float:
    r"""eq:voken-iou: $\mathrm{IoU}(A,B)=|A\cap B|/|A\cup B|$, of the characters of two tokens."""
    both = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    either = (a[1] - a[0]) + (b[1] - b[0]) - both
    return both / either if either else 0.0


def align(source: Sequence[Span], target: Sequence[Span]) -> list[int]:
    """eq:voken-align: for each target token the source token of largest
    overlap, the first of several; one without any gets the next.

    Two pointers that only move forward: what ends before a target token
    begins is never looked at again. Spans are given in the order of the text.
    Raises ``ValueError`` if there is no source token, or spans go backwards.
    """
    check_order(source, "source")
    check_order(target, "target")
    if not source and target:
        raise ValueError("there is no source token whose voken a target token "
                         "could take; leave such texts out")
    found, first = [], 0
    for span in target:
        while first + 1 < len(source) and source[first][1] <= span[0]:
            first += 1
        best, place = first, first
        while place + 1 < len(source) and source[place + 1][0] < span[1]:
            place += 1
            if overlap(source[place], span) > overlap(source[best], span):
                best = place
        found.append(best)
    return found


def check_order(spans: Sequence[Span], kind: str) -> None:
    """Refuse spans that are not in the order of the text."""
    for i, (start, end) in enumerate(spans):
        if end < start or (i and (start < spans[i - 1][0] or end < spans[i - 1][1])):
            raise ValueError(f"{kind} token {i} has the characters {start} to {end}, the one before "
                             f"{spans[i - 1] if i else 'none'}; give tokens in the order of the text")


# -------------------------------------------------------------------------- texts, and where tokens stand


def text_of_pieces(pieces: Sequence[str]) -> tuple[str, list[Span]]:
    """The text that WordPiece tokens make, and the characters of each: words with a space between them,
    pieces that begin with ``##`` joined to what stands before."""
    text, spans = "", []
    for i, piece in enumerate(pieces):
        goes_on = i > 0 and piece.startswith(PIECE) and len(piece) > len(PIECE)
        letters = piece.removeprefix(PIECE) if goes_on else piece
        text += "" if goes_on or not i else " "
        spans.append((len(text), len(text) + len(letters)))
        text += letters
    return text, spans


def text_of_bytes(pieces: Sequence[str]) -> tuple[str, list[Span]]:
    """The text that byte-level tokens make, and the characters of each, found from their bytes.

    A token may hold a part of a character only; the character is then one of each token that has a byte of
    it. Bytes that are no text become one replacement character each run, as in decoding. Raises
    ``ValueError`` for a letter that stands for no byte.
    """
    of = {letter: byte for byte, letter in byte_letters().items()}
    if strange := next((c for piece in pieces for c in piece if c not in of), None):
        raise ValueError(f"the token letter {strange!r} stands for no byte; give tokens in the spelling of a "
                         "byte-level vocabulary, special tokens left out")
    data = b"".join(bytes(of[c] for c in piece) for piece in pieces)
    text = data.decode(errors="replace")
    owner, place = [], 0                    # the character of each byte
    for character, letter in enumerate(text):
        length = len(letter.encode())
        if letter == "\N{REPLACEMENT CHARACTER}" and data[place:place + 3] != letter.encode():
            rest = text[character + 1:]     # a run of bytes that is no text ends where the rest begins
            length = next(n for n in (1, 2, 3) if data[place + n:].decode(errors="replace") == rest)
        owner += [character] * length
        place += length
    spans, start = [], 0
    for piece in pieces:
        end = start + len(piece)
        if start == end:
            at = owner[start] if start < len(owner) else len(text)
            spans.append((at, at))
        else:
            spans.append((owner[start], owner[end - 1] + 1))
        start = end
    return text, spans


def text_and_spans(tokeniser: Tokeniser, ids: Sequence[int]) -> tuple[str, list[Span]]:
    """The text of ids of a tokeniser of word pieces or of bytes, and the characters of each token.

    Raises ``ValueError`` for another kind of tokeniser.
    """
    if not isinstance(tokeniser, WordPieceTokeniser | BPETokeniser):
        raise ValueError(f"{type(tokeniser).__name__} does not say where its tokens stand; use a "
                         "WordPieceTokeniser or a BPETokeniser")
    pieces = [tokeniser.inner.id_to_token(int(i)) or "" for i in ids]
    return text_of_pieces(pieces) if isinstance(tokeniser, WordPieceTokeniser) else text_of_bytes(pieces)


def ids_and_spans(tokeniser: Tokeniser, text: str) -> tuple[list[int], list[Span]]:
    """Ids of a text without special tokens, and the characters of each token. Raises ``ValueError`` for
    another kind of tokeniser than of word pieces or of bytes."""
    if not isinstance(tokeniser, WordPieceTokeniser | BPETokeniser):
        raise ValueError(f"{type(tokeniser).__name__} does not say where its tokens stand; use a "
                         "WordPieceTokeniser or a BPETokeniser")
    found = tokeniser.inner.encode(text, add_special_tokens=False)
    return found.ids, found.offsets


# ---------------------------------------------------------------------------------------------- the system


class Revokenizer:
    """Texts as ids of ``target`` -> a voken a token, by a vokenizer that reads
    the ids of ``source``.

    ``vokenise`` is ``Vokenizer.vokenise``. A text becomes words again, is
    tokenised as the vokenizer wants it, gets its vokens, and hands each on to
    the target tokens that cover most of it (``align``).
    """

    def __init__(
        self, vokenise: Vokenise, source: Tokeniser, target: Tokeniser
    ) -> None:
        self.vokenise, self.source, self.target = vokenise, source, target

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        written = [text_and_spans(self.target, ids) for ids in texts]
        read = [ids_and_spans(self.source, text) for text, _ in written]
        vokens = self.vokenise([ids for ids, _ in read])
        return [revokenise(given, there, here) for given, (_, there), (_, here)
                in zip(vokens, read, written, strict=True)]


def revokenise(
    vokens: Sequence[int], source: Sequence[Span], target: Sequence[Span]
) -> list[int]:
    """The voken of each target token, from those of the source tokens."""
    if len(vokens) != len(source):
        raise ValueError(f"{len(vokens)} vokens for {len(source)} source "
                         f"tokens; give one each")
    return [vokens[place] for place in align(source, target)]
