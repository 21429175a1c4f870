"""The checks of the museum."""

from vit_edu.exercises import Part, Prediction

SAME_MARKS = "its row of marks is the visitor's, but it starves other parameters: compare the evidence"

UNKNOWN = Prediction(
    "ex-museum-unknown",
    "The name of the exhibit that visitor(4) is.",
    [
        Part(
            "the visitor is",
            "heads not moved back",
            {
                "one place for all": SAME_MARKS,
                "positions first": SAME_MARKS,
                "softmax over queries": "then its rows of weights would not sum to 1; is that among the marks?",
                "scaled by full width": "this one starves nobody; is `gradient in every row` among the marks?",
            },
        )
    ],
)

STARVE = Prediction(
    "ex-museum-starve",
    "How many of the four heads get a gradient in their queries: in the last block, and in the one before it.",
    [
        Part(
            "heads in the last block",
            1,
            {
                4: "only one piece of 48 numbers is read at the end: whose is it?",
                3: "these starve",
                0: "the head of the model reads one piece of 48 numbers, so somebody is heard",
            },
        ),
        Part(
            "heads in the block before",
            4,
            {1: "all pieces of this block are read, by the last block", 3: "all pieces of this block are read"},
        ),
    ],
)

RESIZE = Prediction(
    "ex-museum-resize",
    "How many of the fourteen inspectors notice that the sides are exchanged where positions are resized.",
    [
        Part(
            "inspectors that notice",
            0,
            {
                1: "which image of theirs is not of the native size?",
                14: "at the native size nothing is resized, and they look at no other",
            },
        )
    ],
)

CHECKS = [UNKNOWN, STARVE, RESIZE]
