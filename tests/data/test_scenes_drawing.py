"""The scene world as graphs and pictures: purity, splits, masks, styles, and every drawing."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.data.scenes import (
    CATEGORIES,
    CATEGORY,
    HELD_OUT_CATEGORIES,
    HELD_OUT_PAIRS,
    KINDS,
    SETTINGS,
    SPLITS,
    STYLES,
    Category,
    add_category,
    gallery,
    portrait,
    relations,
    remove_category,
    render,
    sample_scene,
    shapes,
    sheet,
)
from mmlearn.data.scenes.sample import Draws, is_on

GOLDEN = json.loads((Path(__file__).parent / "golden_scenes.json").read_text())


def plain(scene):
    """A scene as integers and words, positions in 1/256."""
    return {
        "key": [scene.seed, scene.index, scene.split], "kind": scene.kind, "setting": scene.setting,
        "objects": [[o.category, o.colour, o.size, o.texture, o.pose, o.flip,
                     *(round(v * 256) for v in (o.x, o.y, o.width, o.height)),
                     o.variant] for o in scene.objects],
        "relations": [[r.subject, r.predicate, r.object] for r in scene.relations],
    }


# Graphs -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: "-".join(map(str, g["key"])))
def test_a_scene_is_the_same_on_every_platform(golden):
    assert plain(sample_scene(*golden["key"])) == golden


def test_the_random_integers_are_those_of_splitmix64():
    draws = Draws()                                               # the published outputs 2 to 4 of seed 0
    want = [0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [draws.below(1 << 64) for _ in range(3)] == want


def test_a_scene_does_not_depend_on_what_was_drawn_before():
    forward = [sample_scene(5, i) for i in range(12)]
    pictures = [render(s).image for s in forward]
    for i in reversed(range(12)):
        assert sample_scene(5, i) == forward[i]
        assert np.array_equal(render(forward[i]).image, pictures[i])


def test_another_process_draws_the_same_pixels():
    code = ("import hashlib; from mmlearn.data.scenes import render, sample_scene; p = "
            "[render(sample_scene(11, i, 'test')) "
            "for i in (4, 2, 9)]; print(hashlib.sha256(b''.join(q.image.tobytes() + q.masks.tobytes() for q "
            "in p)).hexdigest())")
    mine = [render(sample_scene(11, i, "test")) for i in (4, 2, 9)]
    want = hashlib.sha256(b"".join(q.image.tobytes() + q.masks.tobytes() for q in mine)).hexdigest()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == want


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_pairs_and_categories_occur_in_their_own_split_only(split):
    for index in range(400):
        scene = sample_scene(2, index, split)
        pairs = {(o.colour, o.category) for o in scene.objects} & set(HELD_OUT_PAIRS)
        names = {o.category for o in scene.objects} & set(HELD_OUT_CATEGORIES)
        assert bool(pairs) == (split == "compositional")
        assert bool(names) == (split == "zero_shot")


def test_both_halves_of_a_held_out_pair_are_seen_in_training():
    scenes = [sample_scene(0, i) for i in range(3000)]
    colours = {o.colour for s in scenes for o in s.objects}
    names = {o.category for s in scenes for o in s.objects}
    assert {colour for colour, _ in HELD_OUT_PAIRS} <= colours
    assert names == {c.name for c in CATEGORIES} - set(HELD_OUT_CATEGORIES)
    assert all(colour in CATEGORY[name].colours for colour, name in HELD_OUT_PAIRS)


def test_splits_share_no_scene():
    seen = {}
    for split in ("train", "val", "test"):
        for index in range(300):
            scene = sample_scene(0, index, split)
            key = (scene.setting, scene.objects)
            assert key not in seen, (seen.get(key), split, index)
            seen[key] = (split, index)


def test_the_three_kinds_are_what_coco_calls_them():
    scenes = [sample_scene(1, i) for i in range(600)]
    by_kind = {kind: [s for s in scenes if s.kind == kind] for kind in KINDS}
    assert len(by_kind["non-iconic"]) > len(by_kind["iconic object"]) > 50
    assert len(by_kind["iconic scene"]) > 50
    for s in by_kind["iconic object"]:
        (thing,) = s.objects
        assert abs(thing.x - 0.5) < 0.1 and max(thing.width, thing.height) > 0.45
    assert all(len(s.objects) <= 6 for s in scenes)
    several = [s for s in by_kind["non-iconic"] if len({o.category for o in s.objects}) < len(s.objects)]
    assert len(several) > 0.2 * len(by_kind["non-iconic"])        # "three birds"
    mixed = [s for s in by_kind["non-iconic"] if len({o.category for o in s.objects}) > 1]
    assert len(mixed) > 0.6 * len(by_kind["non-iconic"])


def test_things_are_where_such_things_are():
    for index in range(500):
        scene = sample_scene(4, index, SPLITS[index % 5])
        for o in scene.objects:
            category, bottom = CATEGORY[o.category], o.y + o.height / 2
            assert scene.setting in category.settings
            assert (o.colour in category.colours and o.texture in category.textures
                    and o.pose in category.poses)
            assert (
                0 <= o.x - o.width / 2 and o.x + o.width / 2 <= 1 and 0 <= o.y - o.height / 2 and bottom <= 1
            )
            assert all(v * 256 == int(v * 256) for v in (o.x, o.y, o.width, o.height))
            if category.place == "water" and scene.kind != "iconic object":
                assert 0.4 < bottom < 0.70  # the sea at the beach, the lake at night
            if (
                category.place == "ground"
                and o.pose != "flying"
                and not any(is_on(o, s) for s in scene.objects)
            ):
                assert bottom > 0.6                               # a cat may sleep on the table
            if category.place == "sky" and scene.kind != "iconic object":
                assert bottom < 0.65


def test_relations_are_what_the_boxes_say():
    converse = {"left of": "right of", "above": "below", "in front of": "behind"}
    seen = set()
    for index in range(300):
        scene = sample_scene(6, index)
        triples = {(r.subject, r.predicate, r.object) for r in scene.relations}
        assert len(triples) == len(scene.relations) and relations(scene.objects) == scene.relations
        for a, predicate, b in triples:
            seen.add(predicate)
            subject, thing = scene.objects[a], scene.objects[b]
            if predicate in converse:
                assert (b, converse[predicate], a) in triples
            if predicate == "left of":
                assert subject.x < thing.x
            if predicate == "above":
                assert subject.y < thing.y
            if predicate == "in front of":
                assert a > b and (a, "on", b) not in triples
            if predicate == "on":
                assert thing.category in ("table", "bed") and subject.y < thing.y and is_on(subject, thing)
    assert seen == {"left of", "right of", "above", "below", "in front of", "behind", "on"}


@pytest.mark.parametrize("call, message", [
    (lambda: sample_scene(0, 0, "training"), "split 'training' is unknown"),
    (lambda: sample_scene(0, -1), "index -1 is negative"),
    (lambda: sample_scene(0, 0, "zero_shot", CATEGORIES[:3]), "finds none of its categories"),
    (lambda: render(sample_scene(0, 0), 64, "cubist"), "style 'cubist' is unknown"),
    (lambda: render(sample_scene(0, 0), 8), "size 8 is outside"),
    (lambda: portrait("unicorn"), "category 'unicorn' is unknown"),
    (lambda: portrait("apple", texture="checked"), "texture 'checked' is not one of"),
])
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Pictures ---------------------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(seed=st.integers(-(2**70), 2**70), index=st.integers(0, 2**70), split=st.sampled_from(SPLITS),
       size=st.sampled_from((32, 48, 64, 97, 128)))
def test_any_scene_renders_with_disjoint_visible_masks(seed, index, split, size):
    scene = sample_scene(seed, index, split)
    picture = render(scene, size)
    assert picture.image.shape == (size, size, 3) and picture.image.dtype == np.uint8
    assert picture.masks.shape == (len(scene.objects), size, size)
    assert picture.masks.sum(0).max() <= 1                        # no pixel shows two things
    assert (picture.masks.sum((1, 2)) > 0.001 * size * size).all()
    assert picture.image.std() > 10


def test_a_mask_is_the_whole_thing_less_what_is_in_front_of_it():
    for index in range(60):
        scene = sample_scene(8, index)
        masks = render(scene).masks
        whole = [render(replace(scene, objects=(o,))).masks[0] for o in scene.objects]
        for i, mask in enumerate(masks):
            want = whole[i].copy()
            for j in range(i + 1, len(whole)):
                want &= ~whole[j]
            assert np.array_equal(mask, want)
            assert mask.sum() >= 0.25 * whole[i].sum()


def test_the_whole_mask_fills_its_box():
    for category in CATEGORIES:
        for pose in category.poses:
            scene = portrait(category.name, pose=pose, variant=3)
            (thing,), (mask,) = scene.objects, render(scene, 128).masks
            ys, xs = np.nonzero(mask)
            got = np.array([xs.min(), xs.max() + 1, ys.min(), ys.max() + 1]) / 128
            want = np.array([thing.x - thing.width / 2, thing.x + thing.width / 2,
                             thing.y - thing.height / 2, thing.y + thing.height / 2])
            assert np.abs(got - want).max() < 0.17 * max(thing.width, thing.height), (category.name, pose)


def test_masks_agree_between_resolutions():
    shares = []
    for index in range(40):
        scene = sample_scene(9, index)
        small, large = render(scene, 64).masks, render(scene, 256).masks
        coarse = large.reshape(len(large), 64, 4, 64, 4).mean((2, 4)) > 0.5
        for a, b in zip(small, coarse):
            shares.append((a & b).sum() / (a | b).sum())
    assert np.mean(shares) > 0.9 and min(shares) > 0.6


def test_pictures_agree_between_resolutions():
    for index in range(10):
        scene = sample_scene(10, index)
        small, large = render(scene, 64).image.astype(float), render(scene, 256).image.astype(float)
        assert np.abs(small - large.reshape(64, 4, 64, 4, 3).mean((1, 3))).mean() < 12


@pytest.mark.parametrize("style", [s for s in STYLES if s != "normal"])
def test_a_style_changes_the_pixels_and_keeps_the_masks(style):
    for index in (3, 12, 16):
        scene = sample_scene(0, index)
        for size in (64, 100):
            usual, other = render(scene, size), render(scene, size, style)
            assert other.image.shape == usual.image.shape and other.image.dtype == np.uint8
            assert np.array_equal(other.masks, usual.masks)
            assert np.abs(other.image.astype(float) - usual.image).mean() > 1.5
            assert np.array_equal(render(scene, size, style).image, other.image)


def test_clutter_covers_no_object_and_inversion_is_its_own_inverse():
    scene = sample_scene(0, 12)
    usual, cluttered = render(scene), render(scene, style="cluttered")
    shown = usual.masks.any(0)
    assert np.array_equal(cluttered.image[shown], usual.image[shown])
    assert np.array_equal(255 - render(scene, style="inverted").image, usual.image)
    grey = render(scene, style="grey").image
    assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 1], grey[..., 2])


def _attributes():
    for c in CATEGORIES:
        yield c.name, "colour", c.colours
        yield c.name, "texture", c.textures
        yield c.name, "pose", c.poses
        yield c.name, "setting", c.settings
        if c.facing:
            yield c.name, "flip", (False, True)


@pytest.mark.parametrize("name, attribute, values", list(_attributes()),
                         ids=lambda v: v if isinstance(v, str) else "")
def test_every_attribute_can_be_seen(name, attribute, values):
    images = [render(portrait(name, **{attribute: value}), 48).image.astype(float) for value in values]
    for i, a in enumerate(images):
        for b in images[:i]:
            assert (np.abs(a - b).max(-1) > 24).sum() >= 20, (name, attribute)


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda c: c.name)
def test_a_thing_stands_out_from_every_background_and_has_its_own_variants(category):
    for k, setting in enumerate(category.settings):
        for colour in {*category.colours[k % 3::3], *({"white", "black"} & set(category.colours))}:
            scene = portrait(category.name, colour=colour, setting=setting)
            picture = render(scene, 64)
            empty = render(replace(scene, objects=(), relations=()), 64).image.astype(float)
            inside = np.abs(picture.image - empty).max(-1)[picture.masks[0]]
            assert (inside > 30).mean() > 0.18, (category.name, colour, setting)
    first, second = (portrait(category.name, variant=v) for v in (1, 40))
    moved = replace(
        second, index=first.index, objects=(replace(first.objects[0], variant=second.objects[0].variant),)
    )
    drawn = np.abs(render(first, 96).image.astype(float) - render(moved, 96).image).sum()
    assert drawn > 1000


def test_the_colour_of_a_thing_is_the_colour_it_is_called():
    from mmlearn.data.scenes.pen import PALETTE
    for name in ("ball", "car", "balloon", "tent", "cup", "umbrella", "house"):
        for colour in CATEGORY[name].colours:
            picture = render(portrait(name, colour=colour), 96)
            pixels = picture.image[picture.masks[0]].astype(float)
            distance = {c: np.abs(pixels - rgb).max(-1) < 34 for c, rgb in PALETTE.items()}
            assert max(distance, key=lambda c: distance[c].sum()) == colour, (name, colour)


def test_pictures_of_one_setting_vary_and_settings_differ():
    empty = replace(sample_scene(0, 0), objects=(), relations=())
    for setting in SETTINGS:
        images = [render(replace(empty, setting=setting, index=i), 32).image for i in range(12)]
        assert len({image.tobytes() for image in images}) >= 10
    images = [render(replace(empty, setting=s), 32).image.astype(float) for s in SETTINGS]
    assert min(np.abs(a - b).mean() for i, a in enumerate(images) for b in images[:i]) > 12


# Shapes -----------------------------------------------------------------------------------------------------

def test_distances_are_those_to_the_nearest_edge_point():
    y, x = (a.astype(np.float32) for a in np.mgrid[-1:1:23j, -1:1:23j])
    corners = [(-0.6, -0.5), (0.1, 0.0), (0.7, -0.6), (0.5, 0.6), (-0.5, 0.4)]        # not convex
    t = np.linspace(0, 1, 400)[:, None]
    edge = np.concatenate([(1 - t) * np.array(a) + t * np.array(b) for a,
                           b in zip(corners, [*corners[1:], corners[0]])])
    want = np.sqrt(((np.stack([x, y], -1)[:, :, None] - edge) ** 2).sum(-1)).min(-1)
    got = shapes.polygon(x, y, corners)
    np.testing.assert_allclose(np.abs(got), want, atol=2e-3)
    from matplotlib.path import Path as Outline
    inside = Outline(corners).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(x.shape)
    assert ((got < 0) == inside)[want > 1e-3].all()
    line = np.concatenate([(1 - t) * np.array(a) + t * np.array(b) for a, b in zip(corners, corners[1:])])
    want = np.sqrt(((np.stack([x, y], -1)[:, :, None] - line) ** 2).sum(-1)).min(-1)
    np.testing.assert_allclose(shapes.path(x, y, corners, 0.1), want - 0.1, atol=2e-3)
    np.testing.assert_allclose(shapes.capsule(x, y, *corners[0], *corners[1], 0.1),
                               shapes.path(x, y, corners[:2], 0.1), atol=1e-5)


NUMBERS = {  # two shapes of each kind, as ``shapes`` names them
    "circle": [(0.1, -0.2, 0.4), (-0.3, 0.2, 0.15)], "ellipse": [(0.1, 0.0, 0.5, 0.2), (0.0, 0.3, 0.05, 0.4)],
    "box": [(0.0, 0.1, 0.5, 0.3, 0.1), (0.2, 0.2, 0.1, 0.4)],
    "arc": [(0.0, 0.0, 0.5, 0.3, 2.5, 0.05), (0.2, 0.1, 0.2, 1, 4, 0.1)],
    "capsule": [(-0.5, 0.1, 0.4, -0.3, 0.1), (0.1, 0.1, 0.2, 0.7, 0.2, 0.05)],
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_many_shapes_at_once_are_the_shapes_one_by_one(kind):
    grids = [[a.astype(np.float32) for a in np.mgrid[-1:1:rows * 1j, -1:1:9j]] for rows in (7, 12)]
    prepare = getattr(shapes, f"{kind}_numbers", lambda *numbers: numbers)
    together = shapes.batch(kind, [g[1] for g in grids], [g[0] for g in grids],
                            [prepare(*n) for n in NUMBERS[kind]])
    for (y, x), numbers, got in zip(grids, NUMBERS[kind], together):
        assert np.array_equal(got, getattr(shapes, kind)(x, y, *numbers))


def test_many_outlines_at_once_are_the_outlines_one_by_one():
    grids = [[a.astype(np.float32) for a in np.mgrid[-1:1:rows * 1j, -1:1:9j]] for rows in (7, 12, 5)]
    points = [(-0.6, -0.5), (0.1, 0.0), (0.7, -0.6), (0.5, 0.6)]
    lines = [shapes.Edges(points, True, 0.1), shapes.Edges(points[:3], False, 0.1),
             shapes.Edges(points, False, 0.1, 0.02)]
    together = shapes.edge_batch([g[1] for g in grids], [g[0] for g in grids], lines)
    alone = [shapes.polygon(grids[0][1], grids[0][0], points, 0.1),
             shapes.path(grids[1][1], grids[1][0], points[:3], 0.1),
             shapes.path(grids[2][1], grids[2][0], points, 0.1, 0.02)]
    assert all(np.array_equal(got, want) for got, want in zip(together, alone))


@pytest.mark.parametrize("size", [48, 96])
def test_layers_painted_together_in_their_own_rows_are_the_layers_painted_one_by_one(monkeypatch, size):
    scenes = [sample_scene(8, i, SPLITS[i % 5]) for i in range(40)]
    scenes += [portrait(c.name, pose=pose, texture=c.textures[-1],
                        variant=c.id) for c in CATEGORIES for pose in c.poses]
    together = [render(scene, size) for scene in scenes]
    monkeypatch.setattr(sheet, "_MANY", 0)  # each layer is painted as soon as it is noted,
    monkeypatch.setattr(sheet, "_want", lambda shape, rows, wanted: None)              # and over all rows
    monkeypatch.setattr(sheet.Sheet, "note", note_whole)
    for scene, picture in zip(scenes, together):
        alone = render(scene, size)
        assert np.array_equal(alone.image, picture.image) and np.array_equal(alone.masks, picture.masks)


def note_whole(self, part, layer):
    """Take a layer and paint it at once, every shape worked out alone and as a whole."""
    for shape in (layer.distance, layer.inside):
        if isinstance(shape, sheet.Shape):
            shape.value()
    part.layers.append(layer)
    self.flush()


def test_a_shape_behaves_like_its_array_in_a_drawing(monkeypatch):
    tried = []

    def draw_snowman_by_arrays(pen):
        ball = pen.circle(0.0, 0.2, 0.5)
        array = np.asarray(ball)
        assert array.shape == pen.x.shape and ball.shape == array.shape
        assert np.array_equal(np.asarray(0.3 - ball),
                              0.3 - array) and np.array_equal(np.asarray(-ball), -array)
        assert np.array_equal(np.asarray(pen.x + ball), pen.x + array) and np.array_equal(ball < 0, array < 0)
        assert np.array_equal(np.asarray(abs(ball) * 2), abs(array) * 2) and np.array_equal(
            np.minimum(ball, 0.1), np.minimum(array, 0.1)
        )
        pen.fill(np.maximum(ball, pen.y - 0.3))
        tried.append(pen.name)

    with add_category(SNOWMAN, draw_snowman_by_arrays):
        assert render(portrait("snowman"), 64).masks[0].sum() > 200
    assert tried


def test_coverage_of_a_disc_adds_up_to_its_area():
    for n in (16, 64):
        y, x = (a.astype(np.float32) for a in np.mgrid[-1:1:n * 1j, -1:1:n * 1j])
        pixel = 2 / (n - 1)
        area = shapes.coverage(shapes.circle(x, y, 0.03, -0.02, 0.7), pixel).sum() * pixel**2
        assert abs(area - np.pi * 0.49) < 0.02


# A category of one's own ------------------------------------------------------------------------------------

SNOWMAN = Category(100, "snowman", "snowmen", "toy", colours=("white",), settings=("snow",), aspect=0.6)


def draw_snowman(pen):
    pen.fill(pen.circle(0.0, 0.45, 0.55))
    pen.fill(pen.circle(0.0, -0.5, 0.4))
    pen.eye(0.1, -0.55, 0.06)


def test_a_notebook_can_add_a_category_and_take_it_out_again():
    before = [sample_scene(0, i) for i in range(20)]
    with add_category(SNOWMAN, draw_snowman) as added:
        assert CATEGORY["snowman"] is added
        picture = render(portrait("snowman"), 64)
        assert 300 < picture.masks[0].sum() < 2500
        scenes = [sample_scene(0, i, categories=(*CATEGORIES, added)) for i in range(200)]
        assert any(o.category == "snowman" for s in scenes for o in s.objects)
        assert [sample_scene(0, i) for i in range(20)] == before
        add_category(replace(SNOWMAN, aspect=0.7), draw_snowman)                      # the cell run again
    assert "snowman" not in CATEGORY
    with pytest.raises(ValueError, match="unknown"):
        portrait("snowman")


@pytest.mark.parametrize("change, message", [
    ({"name": "cat"}, "collides with 'cat'"), ({"id": 3}, "collides with 'dog'"),
    ({"name": "Snow_Man"}, "lower-case words"), ({"colours": ("beige",)}, "colours"),
    ({"place": "attic"}, "place 'attic'"), ({"scale": 2.0}, "scale"),
])
def test_a_bad_category_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        add_category(replace(SNOWMAN, **change), draw_snowman)
    assert "snowman" not in CATEGORY


def test_the_package_keeps_its_own_categories():
    assert [c.id for c in CATEGORIES] == list(range(1, 35)) and len({c.name for c in CATEGORIES}) == 34
    assert len({c.supercategory for c in CATEGORIES}) >= 8
    with pytest.raises(ValueError, match="was not added"):
        remove_category("cat")


def test_the_gallery_draws_every_page():
    scene = sample_scene(0, 12)
    figures = [gallery.categories(32), gallery.variation("fish", 3, 32), gallery.attributes("cat", 32),
               gallery.settings(1, 32), gallery.kinds(2, 32), gallery.splits(2, 32),
               gallery.styles(scene, 32), gallery.masks([scene], 48)]
    assert [sum(bool(a.images) for a in f.axes) for f in figures] == [34, 3, 11, 6, 6, 6, len(STYLES), 2]
    picture = render(scene, 48)
    shown = gallery.overlay(picture)
    assert np.array_equal(shown[~picture.masks.any(0)], picture.image[~picture.masks.any(0)])
