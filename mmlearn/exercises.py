"""Exercises that answer in words: a check prints ``right: …`` or ``not yet: …`` and never stops the notebook."""

from collections.abc import Callable


def check(right: str) -> Callable[[Callable[[], str | None]], Callable[[], bool]]:
    """Decorate a function that looks at an answer: it returns what is wrong in a sentence, or None if all is well.

    The function runs at once. ``right`` says what the answer has shown. An answer that raises is not yet right either:
    ``NotImplementedError`` means that it is not written yet, anything else is reported with its message. The decorated
    function can be called again and returns whether the answer was right.
    """

    def decorate(look: Callable[[], str | None]) -> Callable[[], bool]:
        def again() -> bool:
            try:
                wrong = look()
            except NotImplementedError as error:
                wrong = str(error) or "not written yet"
                wrong = wrong if "not written yet" in wrong else f"not written yet: {wrong}"
            except Exception as error:
                wrong = f"the answer stopped with {type(error).__name__}: {error}"
            print(f"not yet: {wrong}" if wrong else f"right: {right}")
            return not wrong

        again.__name__, again.__doc__ = look.__name__, look.__doc__
        again()
        return again

    return decorate
