"""The word world: text about the things of the scene world, their pictures, and similarities that are known.

Survey: 3.1 to 3.4.  ``sentences`` writes the text, ``word_pictures`` draws what a noun names;
``relatedness``, ``visual`` and ``mixed`` are pairs of words with their known similarity; ``TWINS`` are pairs
of nouns that no text can tell apart, ``ZERO_SHOT`` nouns that are written about and not pictured before the
test.
"""

from mmlearn.data.word_world.grammar import (
    SPLITS,
    class_of,
    expected_counts,
    expected_pairs,
    sentence_ids,
    sentences,
    themes_of,
    word_ids,
    words,
)
from mmlearn.data.word_world.lexicon import (
    ABSTRACT,
    CONCRETENESS,
    FEELINGS,
    GENERA,
    KINDS_OF_WORDS,
    NOUNS,
    PICTURED,
    PLACES,
    SUPERCATEGORIES,
    TWINS,
    ZERO_SHOT,
    Genus,
    Kind,
)
from mmlearn.data.word_world.looks import (
    colour_similarity,
    shape_similarity,
    texture_similarity,
    visual_similarity,
    word_pictures,
    word_scene,
)
from mmlearn.data.word_world.similarities import (
    concreteness,
    mixed,
    mixed_of,
    relatedness,
    relatedness_of,
    visual,
)
from mmlearn.data.word_world.themes import THEMES

__all__ = [
    "ABSTRACT", "CONCRETENESS", "FEELINGS", "GENERA", "KINDS_OF_WORDS", "NOUNS", "PICTURED", "PLACES",
    "SPLITS", "SUPERCATEGORIES", "THEMES", "TWINS", "ZERO_SHOT", "Genus", "Kind",
    "class_of", "colour_similarity", "concreteness", "expected_counts", "expected_pairs", "mixed", "mixed_of",
    "relatedness", "relatedness_of", "sentence_ids", "sentences", "shape_similarity", "texture_similarity",
    "themes_of", "visual", "visual_similarity", "word_ids", "word_pictures", "word_scene", "words",
]
