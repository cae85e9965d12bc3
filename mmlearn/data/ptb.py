"""Penn-Treebank-style tokens of an image caption, as the caption metrics need them.

Source: the behaviour of the COCO evaluation's tokeniser (X. Chen et al. 2015, arXiv:1504.00325, sec. 3.1),
measured as a black box. What may differ: odd symbols, web addresses, emoticons, markup, rare abbreviations
and rare words with an apostrophe.
"""

import re
from functools import lru_cache

PUNCTUATION: frozenset[str] = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

# Characters are rewritten before the scan: dashes, double quotation marks, fractions, what the tool removes.
_NORMAL = {c: " " for c in (*range(32), *range(127, 160), 0x200B, 0x2012, 0x2028, 0x2029)}
_NORMAL |= {ord(c): " -- " for c in "–—―"} | {ord(c): ' " ' for c in "“”«»"} | {ord(c): "`" for c in "‘‹›‛"}
_NORMAL |= {0xAD: "", ord("…"): " ... "}
_NORMAL |= {ord(c): f" {f} " for c, f in zip("½¼¾⅓⅔", ("1/2", "1/4", "3/4", "1/3", "2/3"))}
_ENTITY = {"&amp;": " & ", "&lt;": " < ", "&gt;": " > ", "&quot;": ' " '}
_ODD = re.compile(r"[\U00010000-\U0010ffff]|&(?:amp|lt|gt|quot);")  # emoji are dropped, entities resolved

# Single tokens that are written differently in the output.
_WRITTEN = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", '"': "''",
            "’": "'", "---": "--", "£": "#", "€": "$", "¢": "cents"}
_SPLIT = {"cannot": "can not", "gonna": "gon na", "wanna": "wan na", "gimme": "gim me", "lemme": "lem me",
          "gotta": "got ta"}
_LETTER = r"[^\W\d_²³¹⁰-₟⅐-⅟]"
_ALNUM = r"(?:[^\W_²³¹⁰-₟⅐-⅟][\u0300-\u036f]*)"
_ABBREVIATIONS = (
    "st mr mrs ms dr prof rev gen col capt lt sgt gov sen jr sr vs mt ft ave blvd rd etc dept inc co corp "
    "ltd bros jan feb mar apr jun jul aug sept oct nov dec mon tue wed thu fri est sq ph.d"
).replace(".", r"\.").replace(" ", "|")

_TOKEN = re.compile(
    rf"""
    (?P<whole>(?:https?://|www\.)\S*[\w/]                # http://example.com
      | </?[a-z][^<>]*>                                  # <b>
      | \(\d{{3}}\)[ ]?\d{{3}}-\d{{4}}                   # (555) 555-1234
      | [:;=]-?[()](?!\w) )                              # :-)
  | (?-i:[A-Z]+(?:&[A-Z]+)+)                             # AT&T, in capitals only
  | (?-i:[A-Z]{{1,3}}\$)                                 # US$
  | [@#]{_LETTER}\w* | [\w.]+@\w[\w.]*                   # @user, #tag, a@b.com
  | {_LETTER}(?:\.{_LETTER})+\.?(?!{_ALNUM}|\.{_LETTER})(?:-{_ALNUM}+)*    # a.m., U.S, U.S.-made
  | (?:{_ABBREVIATIONS}|{_LETTER})\.(?!{_LETTER})        # St., J.
  | (?:nos?|fig|pp|art|op)\.(?=\s*\d)                    # No. 5, but "no." before a word
  | (?P<split>{"|".join(_SPLIT)})(?!\w|[-/'’]\w)         # cannot
  | (?P<clitic>n['’`]t(?!\w) | ['’](?:s|m|d|re|ve|ll)(?!\w) | 't(?=(?:is|was)\b))  # n't, 's, 't of 'tis
  | {_LETTER}+?(?=n['’`]t(?!\w))                         # do, before n't
  | ['’](?:n['’]|(?:n|cause|em|til|\d0s)(?!\w)|\d\d(?=\s))    # 'n', 'em, '90s
  | (?:c['’]mon|s['’]mores|ma['’]am|[eno]e?['’]er|cap['’]n|ol['’])(?!\w)  # ma'am, ol'
  | y['’](?=(?:all|know)\b)                              # y' of y'all
  | {_LETTER}+(?:[.?!]{_LETTER}+)+(?:-{_ALNUM}+)*        # mat.The, a stop without a space
  | \d+(?:[.,]\d+)+{_ALNUM}*(?:-{_ALNUM}+)+              # 1.5-inch
  | [+-]?[.,:]\d+(?:[.,:]\d+)* | [+-]\d+(?:[.,:]\d+)* | \d+(?:[.,:]\d+)+    # ,2 -5 1,000 7:30
  | c\+\+ | [cf]\#                                       # c++
  | (?:[dlno]['’](?={_LETTER}))?{_ALNUM}+(?:[-/_‐‑](?:[dlno]['’])?{_ALNUM}+)*  # o'clock, and/or, red-and-blue
  | [?!]+ | \.\.\. | -+ | \*+ | \#+ | _+ | `` | '' | \S  # runs, then any other character by itself
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(r"(?:[a-z]+,? )*([a-z]{2,})[.]?\n?")  # words, commas and a last full stop: no scan needed
_SPECIAL = frozenset(_SPLIT) | frozenset(_ABBREVIATIONS.split("|"))


@lru_cache(maxsize=65536)
def _tokens(text: str) -> tuple[str, ...]:
    plain = text.lower() if text.isascii() else ""
    if _PLAIN.fullmatch(plain):
        words = plain.replace(",", "").replace(".", "").split()
        if _SPECIAL.isdisjoint(words):
            return tuple(words)
    text = _ODD.sub(lambda m: _ENTITY.get(m[0], " "), text).translate(_NORMAL)
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token, kind = match[0].lower(), match.lastgroup
        if kind == "split":
            tokens += _SPLIT[token].split()
        elif kind == "whole":
            if token[0] in "(:;=":
                token = token.replace("(", "-lrb-").replace(")", "-rrb- ")
            tokens += token.split()
        else:
            tokens.append(token.replace("’", "'") if kind == "clitic" else _WRITTEN.get(token, token))
    return tuple(token for token in tokens if token not in PUNCTUATION)


def ptb_tokenise(text: str) -> list[str]:
    """Lower-case tokens of one caption without punctuation; brackets stay, as -lrb-, -rrb-, ..."""
    return list(_tokens(text))
