"""Where the wrong answers that people really give register: `@wrong("exercise", "words that it must get")`."""

from collections import defaultdict
from collections.abc import Callable

WRONG: dict[str, list[tuple[str, Callable]]] = defaultdict(list)


def wrong(exercise: str, words: str) -> Callable:
    """Registers a wrong answer to an exercise with the words that it must get."""

    def register(function: Callable) -> Callable:
        function.__name__ = exercise
        WRONG[exercise].append((words, function))
        return function

    return register
