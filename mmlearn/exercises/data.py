"""The check of the scene world's exercise."""

from mmlearn.data.scenes import Category, add_category, captions, parse_caption, portrait, render
from mmlearn.exercises import Answer, check

SIZE = 128          # pixels of the checked picture


@check("it is drawn inside its box, its mask fills it well, and captions speak of it")
def category_of_your_own(answer: Answer, category: Category) -> str | None:
    """Draws the thing, measures its mask, reads its captions."""
    with add_category(category, answer.run):            # it draws, and returns nothing
        scene = portrait(category.name, colour=category.colours[0])
        mask = render(scene, SIZE).masks[0]
        spoken = any((category.name,) in parse_caption(sentence) for sentence in captions(scene))
    rows, columns = mask.nonzero()
    box = SIZE * SIZE * scene.objects[0].width * scene.objects[0].height
    if not len(rows):
        return "nothing was drawn: does the shape lie inside the box, and is it painted with pen.fill?"
    if len(rows) / box <= 0.4:
        return f"the mask covers only {len(rows) / box:.0%} of the box: let the thing fill it, from -1 to 1"
    if len(rows) / box >= 0.95:
        return (f"the mask covers {len(rows) / box:.0%} of the box: it reaches beyond it, or is no more than "
                "a block")
    if columns.std() > rows.std():
        return "it is wider than high: the box is higher than wide"
    if (rows < (rows.min() + rows.max()) / 2).mean() > 0.52:
        return "it stands on its head, more of it is above the middle than below: y grows downwards"
    return None if spoken else "no caption speaks of it"
