"""A check of an exercise answers in words."""

from mmlearn.exercises import check


def test_a_right_answer_is_told_what_it_has_shown(capsys):
    @check("the rows sum to one")
    def look():
        return None

    assert capsys.readouterr().out == "right: the rows sum to one\n"
    assert look() is True


def test_a_wrong_answer_is_told_what_is_wrong(capsys):
    @check("the rows sum to one")
    def look():
        return "the columns sum to one"

    assert capsys.readouterr().out == "not yet: the columns sum to one\n"
    assert look() is False


def test_an_unsolved_cell_is_told_so_in_its_own_words(capsys):
    @check("all well")
    def look():
        raise NotImplementedError("not written yet: return the softmax of each row")

    assert capsys.readouterr().out == "not yet: not written yet: return the softmax of each row\n"
    assert not look()


def test_an_unsolved_cell_without_words_is_told_so_as_well(capsys):
    @check("all well")
    def look():
        raise NotImplementedError

    assert capsys.readouterr().out == "not yet: not written yet\n"
    assert not look()


def test_an_answer_that_stops_does_not_stop_the_notebook(capsys):
    @check("all well")
    def look():
        return 1 / 0

    assert capsys.readouterr().out == "not yet: the answer stopped with ZeroDivisionError: division by zero\n"
    assert not look()
