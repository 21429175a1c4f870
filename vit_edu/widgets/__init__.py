"""Interactive pictures: self-contained HTML that works in the book's pages, in Jupyter and in Colab, without a kernel.

    from vit_edu.widgets import DigitReader
    DigitReader(model)

Each is a style sheet, a data block and a script, whose sources are the `.css` and `.js` files of this folder.
"""

from vit_edu.widgets.attention_explorer import AttentionExplorer
from vit_edu.widgets.component import Component, pack_model
from vit_edu.widgets.digit_reader import DigitReader
from vit_edu.widgets.patch_explorer import PatchExplorer
from vit_edu.widgets.position_explorer import PositionExplorer
from vit_edu.widgets.softmax_temperature import SoftmaxTemperature
from vit_edu.widgets.training_calculator import TrainingCalculator

__all__ = [
    "AttentionExplorer",
    "Component",
    "DigitReader",
    "PatchExplorer",
    "PositionExplorer",
    "SoftmaxTemperature",
    "TrainingCalculator",
    "pack_model",
]
