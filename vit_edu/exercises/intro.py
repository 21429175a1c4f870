"""The checks of the introduction."""

from vit_edu.exercises import Part, Prediction

PARAMETERS = Prediction(
    "ex-intro-parameters",
    "Numbers that the introduction's model learns, and the part that has the most: blocks, patches, positions or head.",
    [
        Part(
            "parameters",
            102_666,
            {
                102_602: "64 are missing: the class token, or its own position",
                102_538: "128 are missing: the class token and its position, or the last norm",
                102_656: "the head's biases are missing",
                100_416: "these are the blocks alone",
                35_722: "this is one block; the model has three",
                152_202: "the MLP is twice as wide here, not four times",
            },
        ),
        Part(
            "most are in",
            "blocks",
            {
                "patches": "4 · 64 weights and 64 biases: the patches are small",
                "positions": "17 rows of 64: a hundredth of it all",
                "head": "64 · 10 weights and ten biases",
            },
        ),
    ],
)

JIGSAW = Prediction(
    "ex-intro-jigsaw",
    "The logits, same, shuffled or other: patches and positions shuffled alike; then without any positions.",
    [
        Part(
            "shuffled alike",
            "same",
            {
                "other": "each patch brings its own place along, and to the blocks tokens are a set",
                "shuffled": "a logit belongs to a class, not to a place",
            },
        ),
        Part(
            "without positions",
            "other",
            {
                "same": "then the model cannot tell a 6 from the same pieces in another order",
                "shuffled": "a logit belongs to a class, not to a place",
            },
        ),
    ],
)

TURN = Prediction(
    "ex-intro-turn",
    "The digits that are read correctly upside down, three times out of four, as a list.",
    [
        Part(
            "right again at 180°",
            [0, 8],
            {
                (0, 1, 8): "a 1 with a flag or a foot is no 1 upside down",
                (0, 6, 8, 9): "a 6 becomes a 9, and the label still says 6",
                (0, 6, 9, 8): "a 6 becomes a 9, and the label still says 6",
                (6, 9): "they become each other, and the labels stay",
                (8,): "one more is its own image",
                (0,): "one more is its own image",
            },
        )
    ],
)

CHECKS = [PARAMETERS, JIGSAW, TURN]
