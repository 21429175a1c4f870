"""Augmentation where the images lie: the same operations and the same distribution as torchvision's, one by one."""

import math
import statistics
from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from vit_edu.augment import (
    NO_AUGMENTATION,
    OPERATIONS,
    SIGNED,
    Augment,
    Augmentation,
    crop_and_flip,
    enlarge,
    erase,
    mix,
    normalise,
    rand_augment,
    transforms_for,
)
from vit_edu.data import digits32

# Our names for torchvision's operations.
THEIRS = {
    "identity": "Identity", "shear x": "ShearX", "shear y": "ShearY", "shift x": "TranslateX",
    "shift y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pictures(n=16, size=32):
    """Smooth coloured bytes, unlike noise: interpolation and equalising do something to them."""
    low = torch.rand(n, 3, 5, 5) * 255
    return nn.functional.interpolate(low, (size, size), mode="bicubic").clamp(0, 255).byte()


@pytest.mark.parametrize("magnitude", [0, 5, 9, 14, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_equals_torchvisions(name, magnitude):
    """The same bytes as v2.RandAugment makes of the same image, for both signs."""
    theirs, images = v2.RandAugment(), pictures()
    images[8:, :, 0, :8], images[8:, :, 0, 8:16] = 255, 0  # white, which solarize inverts even at 0, and black
    strengths, signed = theirs._AUGMENTATION_SPACE[THEIRS[name]]
    assert signed == (name in SIGNED)
    levels = strengths(31, 32, 32)
    strength = float(levels[magnitude]) if levels is not None else 0.0
    for sign in (1, -1) if signed else (1,):
        ours = OPERATIONS[name](images, sign * magnitude / 30)
        for image, own in zip(images, ours):
            expected = theirs._apply_image_or_video_transform(
                image, THEIRS[name], sign * strength, interpolation=InterpolationMode.NEAREST, fill=theirs._fill
            )
            assert (own.int() - expected.int()).abs().max() <= 1  # of 255: rounding in float32
            assert (own != expected).float().mean() < 0.05


def test_solarize_inverts_from_the_threshold_on():
    """By hand: at level 0 the threshold is 255, which white reaches; at 0.5 it is 127.5, at 1 everything is inverted."""
    tones = torch.tensor([0, 127, 128, 254, 255], dtype=torch.uint8).expand(1, 3, 1, 5)
    expected = {0: [0, 127, 128, 254, 0], 0.5: [0, 127, 127, 1, 0], 1: [255, 128, 127, 1, 0]}
    for level, values in expected.items():
        assert OPERATIONS["solarize"](tones, level)[0, 0, 0].tolist() == values


def test_every_operation_is_there():
    assert sorted(THEIRS[name] for name in OPERATIONS) == sorted(v2.RandAugment()._AUGMENTATION_SPACE)


def test_rand_augment_gives_each_image_its_own_chance():
    """Of many copies of an image each operation takes its share, and the order of the images stays."""
    image = pictures(1)
    done = {}
    for name in OPERATIONS:
        for sign in (1, -1) if name in SIGNED else (1,):
            done.setdefault(OPERATIONS[name](image, sign * 9 / 30)[0].numpy().tobytes(), set()).add(name)
    out = rand_augment(image.expand(7000, -1, -1, -1), operations=1, magnitude=9)
    counts = {name: 0 for name in OPERATIONS}
    for each in out:
        (name, *others) = done[each.numpy().tobytes()]  # KeyError: something that no operation makes
        assert not others
        counts[name] += 1
    for name, count in counts.items():
        assert abs(count - 500) < 5 * math.sqrt(500 * 13 / 14), (name, count)
    marked = pictures(64)
    assert (rand_augment(marked, 0) == marked).all()
    shifted = rand_augment(marked, 1, 0)  # at magnitude 0 most operations leave the image as it is
    same = [(a == b).all() for a, b in zip(shifted, marked)]
    assert sum(same) > 32, "images changed places"


def test_a_crop_is_a_window_of_the_mirrored_image():
    """Each result is found at exactly one of the 9 × 9 places of the image padded by reflection, or its mirror image."""
    images, padding = pictures(200), 4
    out = crop_and_flip(images, padding, 0.5)
    padded = nn.functional.pad(images.float(), [padding] * 4, mode="reflect").byte()
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (200, 3, 9, 9, 32, 32)
    found, flips = [], 0
    for i in range(200):
        for flipped in (False, True):
            own = out[i].flip(-1) if flipped else out[i]
            match = (windows[i] == own[:, None, None]).flatten(3).all(-1).all(0).nonzero()
            if len(match):
                found.append(tuple(match[0].tolist()))
                flips += flipped
                break
    assert len(found) == 200
    assert 70 < flips < 130 and len(set(found)) > 60


def test_no_padding_and_no_flip_change_nothing():
    images = pictures()
    assert (crop_and_flip(images, 0, 0.0) == images).all()
    assert (crop_and_flip(images, 0, 1.0) == images.flip(-1)).all()


def test_a_padding_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="crop_padding 32 does not fit images of 32 × 32"):
        crop_and_flip(pictures(), 32, 0.5)


def test_rand_augment_refuses_floats_and_magnitudes_without_meaning():
    with pytest.raises(ValueError, match="takes bytes"):
        rand_augment(pictures().float())
    with pytest.raises(ValueError, match="31"):
        rand_augment(pictures(), 2, 31)


def test_erased_areas_are_distributed_as_torchvisions():
    """Area, height and position of the hole: Kolmogorov and Smirnov see no difference; as often as asked for."""
    n, theirs = 3000, v2.RandomErasing(p=1.0)
    ones = torch.ones(n, 1, 32, 32)
    ours, other = erase(ones, 1.0) == 0, torch.stack([theirs(image) for image in ones]) == 0
    measures = {
        "area": lambda hole: hole.flatten(1).sum(1),
        "height": lambda hole: hole.any(3).flatten(1).sum(1),
        "top": lambda hole: hole.any(3).flatten(1).float().argmax(1),
        "left": lambda hole: hole.any(2).flatten(1).float().argmax(1),
    }
    for name, measure in measures.items():
        assert ks_2samp(measure(ours), measure(other)).pvalue > 0.001, name
    holes = (erase(ones, 0.25) == 0).flatten(1).any(1).float().mean().item()
    assert abs(holes - 0.25) < 0.04


@pytest.mark.parametrize("config", [Augmentation(), Augmentation(operations=1, magnitude=5, erasing=0)])
def test_the_device_and_the_loader_path_have_one_distribution(config):
    """One picture augmented 2,000 times each way: brightness, contrast, colour, and where the light is."""
    config = replace(config, mix=0)
    images = digits32()
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    picture = pictures(1)
    n = 2000
    ours, _ = Augment(config, mean, std, 10, epochs=1)(picture.expand(n, -1, -1, -1), torch.zeros(n).long())
    transform = transforms_for(config, 32, mean, std)
    theirs = torch.stack([transform(picture[0]) for _ in range(n)])
    ramp = torch.linspace(-1, 1, 32)
    measures = {
        "mean": lambda x: x.mean((1, 2, 3)),
        "contrast": lambda x: x.std((1, 2, 3)),
        "colour": lambda x: (x[:, 0] - x[:, 2]).abs().mean((1, 2)),
        "left to right": lambda x: (x.mean((1, 2)) * ramp).mean(1),
        "top to bottom": lambda x: (x.mean((1, 3)) * ramp).mean(1),
        "edges": lambda x: (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3)),
        "a pixel": lambda x: x[:, 1, 7, 20],
    }
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    for name, measure in measures.items():
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 0.001, name
    assert images.train_images.shape[1:] == ours.shape[1:]


def test_a_weaker_augmentation_has_another_distribution():
    """The test above can fail: it tells magnitude 9 from magnitude 5."""
    mean = std = torch.full((3,), 0.5)
    batch, labels = pictures(1).expand(2000, -1, -1, -1), torch.zeros(2000).long()
    strong, weak = (
        Augment(Augmentation(magnitude=m, mix=0), mean, std, 10, 1)(batch, labels)[0].std((1, 2, 3)) for m in (9, 5)
    )
    assert ks_2samp(strong, weak).pvalue < 1e-6


def test_mixed_targets_sum_to_one_and_the_area_is_the_weight():
    """Images of one colour for each class: CutMix's area and MixUp's brightness can be read off."""
    labels = torch.arange(10).repeat(4)
    flat = (labels.float() / 10)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    for config, cut in (Augmentation(mixup=0), True), (Augmentation(cutmix=0), False):
        weights = []
        for _ in range(50):
            images, targets = mix(flat.clone(), labels, 10, config)
            assert targets.shape == (40, 10) and torch.allclose(targets.sum(1), torch.ones(40))
            own = targets[torch.arange(40), labels]
            if cut:
                area = (images[:, 0] == flat[:, 0]).float().mean((1, 2))
                assert torch.allclose(area, own, atol=1e-5)
            expected = (targets * torch.arange(10) / 10).sum(1)
            assert torch.allclose(images.mean((1, 2, 3)), expected, atol=1e-5)
            weights.append(own[0].item())
        assert statistics.stdev(weights) > 0.1


def test_mixing_ends_when_it_should():
    config = Augmentation(mix=1.0, mix_until=0.65)
    augment = Augment(config, torch.zeros(3), torch.ones(3), 10, epochs=20)
    batch = pictures(8), torch.arange(8)
    kinds = []
    for epoch in range(20):
        augment.set_epoch(epoch)
        kinds.append(augment(*batch)[1].ndim)
    assert kinds == [2] * 13 + [1] * 7


def test_no_augmentation_normalises_alone():
    images, labels = pictures(), torch.arange(16)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    out, targets = Augment(NO_AUGMENTATION, mean, std, 16, 1)(images, labels)
    assert (targets == labels).all()
    assert torch.equal(out, normalise(images, mean, std))
    expected = v2.Normalize(mean.tolist(), std.tolist())(images.float() / 255)
    assert torch.allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [tuple, list, torch.tensor])
def test_moments_may_be_numbers_or_a_tensor(kind):
    mean, std, images = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), pictures(2)
    expected = normalise(images, torch.tensor(mean), torch.tensor(std))
    assert torch.equal(normalise(images, kind(mean), kind(std)), expected)
    alone = transforms_for(NO_AUGMENTATION, 32, kind(mean), kind(std))(images[0])
    assert torch.allclose(alone, expected[0], atol=1e-6)


def test_enlarging():
    images = torch.randn(2, 3, 32, 32)
    assert enlarge(images, None) is images and enlarge(images, 32) is images
    assert enlarge(images, 224).shape == (2, 3, 224, 224)
    assert torch.allclose(enlarge(torch.full((1, 3, 32, 32), 0.3), 224), torch.tensor(0.3))


def test_the_same_seed_gives_the_same_batch():
    augment = Augment(Augmentation(), torch.zeros(3), torch.ones(3), 10, 1)
    batches = []
    for seed in 1, 1, 2:
        torch.manual_seed(seed)
        batches.append(augment(pictures(32), torch.arange(32) % 10)[0])
    assert not torch.equal(batches[0], batches[2])
    torch.manual_seed(5)
    images = pictures(32)
    same = []
    for _ in range(2):
        torch.manual_seed(1)
        same.append(augment(images, torch.arange(32) % 10)[0])
    assert torch.equal(*same)
