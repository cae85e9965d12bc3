import math

import pytest
import torch
from networks import count

from mmlearn.nn.positions import PositionTable, TokenEmbedding, grid_sinusoids, sinusoids


@pytest.mark.equation("eq:sinusoid")
def test_positions_are_sines_and_cosines_of_falling_rates():
    table = sinusoids(7, 6)
    for p in range(7):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert table[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_every_row_of_the_sinusoids_has_the_same_length():
    torch.testing.assert_close(sinusoids(55, 512).norm(dim=1), torch.full((55,), math.sqrt(256)))


def test_the_similarity_of_two_positions_depends_on_their_distance_alone():
    table = sinusoids(20, 32).double()
    for distance in (1, 4, 9):
        products = [float(table[p] @ table[p + distance]) for p in range(20 - distance)]
        assert max(products) - min(products) < 1e-5


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="odd"):
        sinusoids(4, 5)


def test_text_positions_count_from_one_and_row_zero_is_padding():
    table = PositionTable(10, 8, first=1)
    assert table.table.shape == (11, 8)
    assert (table.table[0] == 0).all()
    torch.testing.assert_close(table(3), sinusoids(11, 8)[1:4])
    torch.testing.assert_close(table(2, start=5), sinusoids(11, 8)[6:8])


def test_the_table_ends_somewhere():
    with pytest.raises(ValueError, match="position 11 is past the table's 10"):
        PositionTable(10, 8)(2, start=9)


def test_only_learned_positions_are_trained_and_all_kinds_are_saved():
    for kind, trained in (("sinusoid", 0), ("random", 0), ("learned", 80)):
        table = PositionTable(10, 8, kind)
        assert count(table) == trained
        assert list(table.state_dict()) == ["table"]
    with pytest.raises(ValueError, match="unknown"):
        PositionTable(10, 8, "rotary")


def test_the_padding_word_is_zero_and_gets_no_gradient():
    embed = TokenEmbedding(9, 8, 5, pad=1)
    assert (embed.words.weight[1] == 0).all()
    embed(torch.tensor([[2, 1, 1]])).sum().backward()
    assert (embed.words.weight.grad[1] == 0).all()
    assert (embed.words.weight.grad[2] != 0).any()


def test_grid_positions_say_row_and_column():
    grid = grid_sinusoids(9, 8).view(3, 3, 8)
    line = sinusoids(3, 4)
    for y in range(3):
        for x in range(3):
            torch.testing.assert_close(grid[y, x], torch.cat([line[y], line[x]]))
    with pytest.raises(ValueError, match="8 cells"):
        grid_sinusoids(8, 8)


@pytest.mark.equation("eq:word-embedding")
def test_a_word_enters_the_decoder_as_its_row_of_the_table_plus_its_position():
    embed = TokenEmbedding(vocab=9, width=6, max_len=10, pad=1).double()
    tokens = torch.tensor([[2, 5, 8, 3], [2, 4, 4, 4]])
    table, positions = embed.words.weight.detach(), sinusoids(12, 6)
    for row, words in enumerate(tokens.tolist()):
        for place, word in enumerate(words):
            # positions count from 1
            want = [float(table[word, i]) + float(positions[place + 1, i]) for i in range(6)]
            torch.testing.assert_close(embed(tokens)[row, place], torch.tensor(want, dtype=torch.float64),
                                       atol=1e-6, rtol=0)


def test_a_token_outside_the_vocabulary_is_refused():
    embed = TokenEmbedding(10, 4, 8, pad=1)
    assert embed(torch.tensor([[2, 9]])).shape == (1, 2, 4)
    for ids, message in (([[2, 10]], "from 2 to 10"), ([[-1, 3]], "from -1 to 3")):
        with pytest.raises(ValueError, match=f"token ids go {message}, the vocabulary from 0 to 9; use"):
            embed(torch.tensor(ids))
