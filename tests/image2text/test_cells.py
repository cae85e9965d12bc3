"""The labels of cells, and a trunk that learns them."""

import numpy as np
import pytest
import torch

from mmlearn.data.scenes import CATEGORIES, portrait, render, sample_scene
from mmlearn.data.scenes.graph import COLOURS
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.cells import (
    LABELS,
    NOTHING,
    CellBatch,
    CellBatches,
    CellData,
    CellReader,
    OnCells,
    cell_accuracy,
    cell_labels,
    cell_loss,
    grids,
    train_cells,
)
from mmlearn.image2text.regions import UNKNOWN
from mmlearn.nn.vision import ResidualTrunk


@pytest.fixture(scope="module")
def data():
    return CellData(6, seed=3)


def test_a_cell_is_labelled_by_the_thing_that_covers_most_of_it():
    scene = sample_scene(0, 0, "test")
    masks = render(scene, 64).masks
    labels = cell_labels(scene, masks)
    names = [c.name for c in CATEGORIES]
    for y in range(8):
        for x in range(8):
            counts = [int(mask[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].sum()) for mask in masks]
            if max(counts) < 4:
                assert labels[0, y, x] == NOTHING and (labels[1:, y, x] == UNKNOWN).all()
                continue
            thing = scene.objects[counts.index(max(counts))]
            assert names[labels[0, y, x] - 1] == thing.category and COLOURS[labels[1, y, x]] == thing.colour


def test_a_picture_without_things_has_empty_cells():
    scene = sample_scene(0, 1, "test")
    empty = type(scene)(**{**scene.__dict__, "objects": (), "relations": ()})
    labels = cell_labels(empty, np.zeros((0, 64, 64), bool))
    assert (labels[0] == NOTHING).all() and (labels[1:] == UNKNOWN).all()


def test_a_mirrored_picture_has_mirrored_labels_and_directions(data):
    plain, mirrored = data.rows([0, 1]), data.rows([0, 1], mirror=True)
    assert torch.equal(plain.images.flip(-1), mirrored.images)
    before, after = plain.cells.unflatten(2, (8, 8)), mirrored.cells.unflatten(2, (8, 8)).flip(-1)
    assert torch.equal(before[:, :-1], after[:, :-1])
    known = before[:, -1] != UNKNOWN
    assert torch.equal(after[:, -1][known], 1 - before[:, -1][known]) and bool(
        (after[:, -1][~known] == UNKNOWN).all()
    )


def test_a_batch_is_a_function_of_its_number_and_drawn_with_replacement(data):
    batches = CellBatches(data, 4)
    for once, again in zip(batches(5), CellBatches(data, 4)(5)):
        assert torch.equal(once, again)
    draw = torch.Generator().manual_seed(5)
    index = torch.randint(6, (4,), generator=draw)
    wanted = data.rows(index, mirror=bool(torch.rand((), generator=draw) < 0.5))
    assert all(torch.equal(a, b) for a, b in zip(batches(5), wanted))
    assert batches.indices(5, 0, 2) + batches.indices(5, 1, 2) == index[::2].tolist() + index[1::2].tolist()


def test_a_right_answer_everywhere_costs_nothing_and_is_counted_as_right(data):
    class Knows(CellReader):
        def forward(self, images):
            rows = data.rows(range(len(images)))
            wanted = rows.cells.clamp(min=0)
            logits = {
                name: 50.0 * torch.nn.functional.one_hot(wanted[:, i], count).float()
                for i, (name, count) in enumerate(LABELS.items())
            }
            return {**logits, "setting": 50.0 * torch.nn.functional.one_hot(rows.setting, 6).float()}

    reader = Knows(torch.nn.Identity(), 4)
    batch = data.rows(range(6))
    loss, parts = cell_loss(reader, CellBatch(*batch))
    assert loss.item() < 1e-6 and set(parts) == {*LABELS, "setting"}
    assert all(value == 1.0 for value in cell_accuracy(reader, data).values())


def test_a_trunk_learns_a_handful_of_pictures_and_the_grid_is_its_cells(data):
    torch.manual_seed(0)
    reader = CellReader(ResidualTrunk((8, 16, 16, 16)), 16)
    history = train_cells(reader, data, steps=60, lr=1e-2, progress=False)
    assert sum(history.loss[-5:]) < 0.5 * sum(history.loss[:5])
    cells = grids(reader.trunk, data.images)
    assert cells.shape == (6, 64, 16) and cells.dtype == torch.float16
    torch.testing.assert_close(
        cells[:1].float(), reader.trunk(data.images[:1].float() / 255), atol=5e-3, rtol=5e-3
    )


def test_a_captioner_says_the_same_from_a_picture_and_from_its_cells():
    torch.manual_seed(0)
    model = CNNTransformer(CaptionerConfig.residual(30)).eval()
    picture = torch.from_numpy(render(portrait("cat"), 64).image).permute(2, 0, 1)[None].float() / 255
    tokens = torch.tensor([[2, 5, 7]])
    reader = OnCells(model)
    torch.testing.assert_close(reader(model.features(picture), tokens), model(picture, tokens))
    assert {p.data_ptr() for p in reader.parameters()} == {p.data_ptr() for p in model.parameters()}
