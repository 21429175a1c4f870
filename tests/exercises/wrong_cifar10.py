"""Wrong answers to the exercises of chapter 11."""

from dataclasses import replace

import torch
from wrong_answers import wrong

from vit_edu.optimizer import TrainingConfig

CHANGE, LOOKS = "half_decay", "two_looks"


@wrong(CHANGE, "that is half of one recipe's weight decay")
def _(recipe):
    training = replace(recipe.training, weight_decay=0.025)
    return replace(recipe, training=training, changes=recipe.changes + ("half-decay",))


@wrong(CHANGE, "no weight decay is left")
def _(recipe):
    training = replace(recipe.training, weight_decay=0.0)
    return replace(recipe, training=training, changes=recipe.changes + ("half-decay",))


@wrong(CHANGE, "the weight decay is doubled")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 0.5)
    return replace(recipe, training=training, changes=recipe.changes + ("half-decay",))


@wrong(CHANGE, "the weight decay is what it was")
def _(recipe):
    replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, changes=(*recipe.changes, "half-decay"))


@wrong(CHANGE, "the names of earlier changes are lost")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=("half-decay",))


@wrong(CHANGE, "`changes` does not tell of it")
def _(recipe):
    return replace(recipe, training=replace(recipe.training, weight_decay=0.5 * recipe.training.weight_decay))


@wrong(CHANGE, "changes are named in their order")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=("half-decay", *recipe.changes))


@wrong(CHANGE, "taken apart into letters")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=recipe.changes + tuple("half-decay"))


@wrong(CHANGE, "it is half-decay")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=recipe.changes + ("half_decay",))


@wrong(CHANGE, "fell back to its defaults")
def _(recipe):
    training = TrainingConfig(weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=(*recipe.changes, "half-decay"))


@wrong(CHANGE, "this is another recipe by name")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, name=recipe.name + "-half-decay", training=training)


@wrong(CHANGE, "`changes` has to be a tuple")
def _(recipe):
    training = replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)
    return replace(recipe, training=training, changes=[*recipe.changes, "half-decay"])


@wrong(CHANGE, "FrozenInstanceError: cannot assign to field 'weight_decay'")
def _(recipe):
    recipe.training.weight_decay /= 2
    return recipe


@wrong(CHANGE, "returns a TrainingConfig; the task asks for Recipe")
def _(recipe):
    return replace(recipe.training, weight_decay=recipe.training.weight_decay / 2)


@wrong(LOOKS, "upside down")
def _(model, images):
    return (model(images) + model(images.flip(-2))) / 2


@wrong(LOOKS, "turned by half")
def _(model, images):
    return (model(images) + model(images.rot90(2, (2, 3)))) / 2


@wrong(LOOKS, "the channels change places")
def _(model, images):
    return (model(images) + model(images.flip(1))) / 2


@wrong(LOOKS, "the images of the batch change places")
def _(model, images):
    return (model(images) + model(images.flip(0))) / 2


@wrong(LOOKS, "halve the sum")
def _(model, images):
    return model(images) + model(images.flip(-1))


@wrong(LOOKS, "these are probabilities")
def _(model, images):
    return (model(images).softmax(1) + model(images.flip(-1)).softmax(1)) / 2


@wrong(LOOKS, "a softmax too much")
def _(model, images):
    return ((model(images) + model(images.flip(-1))) / 2).softmax(1)


@wrong(LOOKS, "the larger of both")
def _(model, images):
    return torch.maximum(model(images), model(images.flip(-1)))


@wrong(LOOKS, "the mirror image alone")
def _(model, images):
    images = images.flip(-1)
    return (model(images) + model(images)) / 2


@wrong(LOOKS, "this is one look")
def _(model, images):
    images.flip(-1)
    return (model(images) + model(images)) / 2


@wrong(LOOKS, "pictures are averaged")
def _(model, images):
    return model((images + images.flip(-1)) / 2)


@wrong(LOOKS, "answers for different images are averaged")
def _(model, images):
    return model(torch.cat([images, images.flip(-1)])).view(len(images), 2, -1).mean(dim=1)


@wrong(LOOKS, "these are classes")
def _(model, images):
    return ((model(images) + model(images.flip(-1))) / 2).argmax(dim=1)


@wrong(LOOKS, "average the pairs")
def _(model, images):
    return model(torch.cat([images, torch.flip(images, dims=[3])]))
