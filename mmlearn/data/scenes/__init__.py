"""The scene world: small drawn pictures with a language, whose ground truth is known by construction."""

from mmlearn.data.scenes.categories import (
    CATEGORIES,
    CATEGORY,
    HELD_OUT_CATEGORIES,
    HELD_OUT_PAIRS,
    add_category,
    remove_category,
)
from mmlearn.data.scenes.corpus import corpus, word_similarity
from mmlearn.data.scenes.dataset import SceneDataset
from mmlearn.data.scenes.export import export_coco
from mmlearn.data.scenes.graph import (
    COLOURS,
    KINDS,
    PREDICATES,
    SETTINGS,
    SIZES,
    TEXTURES,
    Category,
    Relation,
    Scene,
    SceneObject,
)
from mmlearn.data.scenes.language import captions, parse_caption, scene_tuples
from mmlearn.data.scenes.questions import Question, questions
from mmlearn.data.scenes.referring import Referring, referring
from mmlearn.data.scenes.render import Picture, render
from mmlearn.data.scenes.sample import SPLITS, portrait, relations, sample_scene, side_by_side
from mmlearn.data.scenes.shifts import STYLES
from mmlearn.data.scenes.speech import spectrogram, speech

__all__ = [
    "CATEGORIES", "CATEGORY", "COLOURS", "HELD_OUT_CATEGORIES", "HELD_OUT_PAIRS", "KINDS", "PREDICATES",
    "SETTINGS",
    "SIZES", "SPLITS", "STYLES", "TEXTURES", "Category", "Picture", "Relation", "Scene", "SceneObject",
    "add_category", "portrait",
    "relations", "remove_category", "render", "sample_scene",
]
__all__ += [
    "Question", "Referring", "SceneDataset", "captions", "corpus", "export_coco", "parse_caption",
    "questions",
    "referring", "scene_tuples", "side_by_side", "spectrogram", "speech", "word_similarity",
]
