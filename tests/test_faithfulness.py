"""Is the map true? Against loops, SciPy, a model whose right answer is known, and the program's own record."""

import hashlib
import itertools
import json

import pytest
import torch
from safetensors.numpy import load_file as safe_load
from scipy.stats import spearmanr
from small_models import recomputed, small_vit
from torch import nn

from vit_edu import attention_maps as am
from vit_edu import faithfulness as fa
from vit_edu import preparation as prep
from vit_edu.data import digits32
from vit_edu.records import RECORDED, read_record
from vit_edu.weights import Preparation, save_weights

IMAGES = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def test_input_times_gradient_is_the_first_order_change():
    model, images = small_vit(pool="mean").double(), IMAGES.double()
    got = fa.input_times_gradient(model, images, 1)
    assert got.shape == (3, 2, 3)
    smaller = images.clone()
    smaller[:, :, 4:8, 8:12] *= 1 - 1e-6  # the last patch, a bit nearer to 0
    change = (model(images) - model(smaller))[:, 1] / 1e-6
    torch.testing.assert_close(got[:, 1, 2], change, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_every_kind_of_map_has_the_grids_shape_and_its_own_numbers(pool):
    model = small_vit(pool=pool)
    maps = {kind: fa.importance(model, IMAGES, kind, None, torch.Generator().manual_seed(0)) for kind in fa.KINDS}
    assert all(grid.shape == (3, 2, 3) for grid in maps.values())
    for one, other in itertools.combinations(maps.values(), 2):
        assert not torch.allclose(one, other)
    weights = recomputed(model, IMAGES)[-1].mean(dim=1)
    expected = weights[:, 0, 1:] if pool == "cls" else weights.mean(dim=1)
    torch.testing.assert_close(maps["last block"].flatten(1), expected, rtol=0, atol=1e-6)
    rolled = am.rollout(recomputed(model, IMAGES))[-1]
    expected = rolled[:, 0, 1:] if pool == "cls" else rolled.mean(dim=1)
    torch.testing.assert_close(maps["rollout"].flatten(1), expected, rtol=0, atol=1e-6)
    assert maps["centre"][0].argmax() in (1, 4) and (maps["centre"][0] == maps["centre"][1]).all()


def test_erasing_curves_image_by_image_patch_by_patch():
    model, chance = small_vit(pool="mean").train(), torch.Generator().manual_seed(3)
    maps, classes = torch.rand(3, 2, 3, generator=chance), torch.tensor([0, 4, 2])
    shares, deletion, insertion = fa.erasing_curves(model, IMAGES, maps, classes, every=4)
    assert shares.tolist() == [0, pytest.approx(4 / 6), 1] and model.training
    model.eval()
    for b, (image, grid, k) in enumerate(zip(IMAGES, maps, classes)):
        order = sorted(itertools.product(range(2), range(3)), key=lambda at: -grid[at])
        for s, count in enumerate((0, 4, 6)):
            less, more = image.clone(), torch.zeros_like(image)
            for row, column in order[:count]:
                at = (slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                less[at], more[at] = 0, image[at]
            expected = model(torch.stack([less, more])).softmax(dim=1)[:, k]
            assert deletion[b, s].item() == pytest.approx(expected[0].item(), abs=1e-6)
            assert insertion[b, s].item() == pytest.approx(expected[1].item(), abs=1e-6)
    torch.testing.assert_close(deletion[:, 0], insertion[:, -1])
    torch.testing.assert_close(deletion[:, -1], insertion[:, 0])


def test_area_and_order():
    assert fa.area(torch.tensor([0, 0.5, 1.0]), torch.tensor([[1, 0.5, 0], [1, 1, 0]])).tolist() == [0.5, 0.75]
    assert fa.area(torch.tensor([0, 0.25, 1.0]), torch.tensor([[1.0, 0, 0]])).tolist() == [0.125]
    assert fa.ranks(torch.tensor([[[0.2, 0.9], [0.1, 0.5]]])).tolist() == [[[2, 0], [3, 1]]]
    assert fa.ranks(torch.zeros(1, 2, 2)).flatten().tolist() == [0, 1, 2, 3]  # a flat map: reading order
    a, b = torch.rand(2, 5, 4, 6)
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b)]
    assert fa.rank_correlation(a, b).tolist() == pytest.approx(expected)
    assert fa.rank_correlation(a, a).tolist() == pytest.approx([1] * 5)
    assert fa.rank_correlation(a, -a).tolist() == pytest.approx([-1] * 5)


def test_a_good_map_wins_and_a_reversed_one_loses():
    """A model that we know: the class's logit is a sum over patches, so the right order is known."""
    model = small_vit(pool="mean", depth=1, positions="none")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("blocks."):
                parameter.zero_()  # a block that adds nothing
    model.norm = nn.Identity()
    for kind, sign in (("input × gradient", 1), ("reversed", -1)):
        classes = model(IMAGES).argmax(dim=1)
        maps = sign * fa.input_times_gradient(model, IMAGES, classes)
        shares, deletion, insertion = fa.erasing_curves(model, IMAGES, maps, classes, every=1)
        better = fa.area(shares, insertion) - fa.area(shares, deletion)
        assert (sign * better > 0).all(), kind


def test_shuffled_keeps_the_numbers_and_spares_the_model():
    model = small_vit().train()
    before = [p.clone() for p in model.parameters()]
    other = fa.shuffled(model, seed=3)
    for p, q, b in zip(model.parameters(), other.parameters(), before):
        assert torch.equal(p, b) and torch.equal(p.flatten().sort().values, q.flatten().sort().values)
    assert not torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(fa.shuffled(model, seed=3).head.weight, other.head.weight)
    assert not torch.equal(fa.shuffled(model, seed=4).head.weight, other.head.weight)


def test_faithfulness_is_paired_and_batched():
    model = small_vit(pool="mean")
    images = torch.randn(7, 3, 8, 12)
    shares, found = fa.faithfulness(model, images, every=2, batch=7)
    _, parts = fa.faithfulness(model, images, every=2, batch=4)
    assert list(found) == list(fa.KINDS)
    torch.testing.assert_close(parts["rollout"]["deletion"], found["rollout"]["deletion"])
    torch.testing.assert_close(found["centre"]["shuffled"], torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(found["centre"]["next picture"], torch.ones(7, dtype=torch.float64))
    maps = fa.importance(model, images, "rollout")
    neighbours = fa.rank_correlation(maps, maps[[6, 0, 1, 2, 3, 4, 5]])
    torch.testing.assert_close(found["rollout"]["next picture"], neighbours)
    table = fa.summary(shares, found)
    own, base = (fa.area(shares, found[kind]["insertion"]) for kind in ("rollout", "random"))
    row = table["rollout"]["insertion"]
    assert row["gain"] == pytest.approx((own - base).mean().item(), abs=1e-6)
    assert row["error"] == pytest.approx((own - base).std().item() / 7**0.5)
    assert table["rollout"]["deletion"]["gain"] == pytest.approx(
        table["random"]["deletion"]["area"] - table["rollout"]["deletion"]["area"], abs=1e-6
    )
    assert table["random"]["insertion"]["gain"] == table["random"]["insertion"]["error"] == 0
    lines = fa.describe(table).splitlines()
    assert len(lines) == 2 + len(fa.KINDS) and max(map(len, lines)) <= 42


# The program


def digest_of(path) -> str:
    """Of the numbers, not of what else the file says."""
    tensors = safe_load(path)
    return hashlib.sha256(b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of recorded models with one small one in it."""
    for module in prep, fa:
        monkeypatch.setattr(module, "RECORDED", tmp_path)
    model = small_vit(img_size=32, patch_size=8, num_classes=10, pool="mean")
    model.preparation = Preparation(prep.CIFAR10_MEAN, prep.CIFAR10_STD)
    save_weights(model, tmp_path / "small-0" / "weights.safetensors", torch.float16)


def test_the_program_writes_a_record_that_can_be_adopted(shelf, tmp_path, monkeypatch, capsys):
    import record

    monkeypatch.setattr(fa, "cifar10", digits32)
    out = tmp_path / "faithfulness-small-0"
    arguments = ["faithfulness", "--model", "small-0", "--images", "20", "--every", "8", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    fa.main()
    printed, found = capsys.readouterr().out, read_record(out)
    facts = found.facts
    assert fa.describe(facts["kinds"]) in printed and list(facts["kinds"]) == list(fa.KINDS)
    assert facts["shares"] == [0, 0.5, 1] and len(facts["kinds"]["rollout"]["deletion"]["curve"]) == 3
    assert found.metrics == [] and "first 20 test images" in facts["data"]
    assert facts["weights_sha256"] == digest_of(tmp_path / "small-0" / "weights.safetensors")
    labels, x = digits32().test_labels[:20], prep.to_input(digits32().test_images[:20])
    guesses = prep.load_recorded("small-0")(x).argmax(dim=1)
    assert facts["accuracy"] == pytest.approx((guesses == labels).float().mean().item())
    (out / "run.json").write_text(json.dumps(facts | {"commit": "0123456789ab"}))
    record.check(out)


RECORD = RECORDED / "faithfulness-tiny-0"


@pytest.mark.skipif(not RECORD.exists(), reason="faithfulness of tiny-0 is not recorded yet")
def test_the_record_is_of_the_weights_that_are_shipped():
    facts = read_record(RECORD).facts
    if "vit_edu.faithfulness" not in facts["command"]:
        pytest.skip("recorded by the program's first form, which noted the hash of the file as it then was")
    assert facts["weights_sha256"] == digest_of(RECORDED / "tiny-0" / "weights.safetensors")


# Models as people have them


def test_models_without_a_head_or_with_another_one():
    headless, classes = small_vit(num_classes=0), torch.tensor([0, 1, 2])
    maps = fa.importance(headless, IMAGES, "rollout")
    for action in (
        lambda: fa.erasing_curves(headless, IMAGES, maps, classes),
        lambda: fa.importance(headless, IMAGES, "gradient-weighted"),
        lambda: fa.importance(headless, IMAGES, "input × gradient"),
    ):
        with pytest.raises(ValueError, match="no head: it gives features"):
            action()
    model = small_vit()
    model.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 3))
    for kind in fa.KINDS:
        assert fa.importance(model, IMAGES, kind, 2).shape == (3, 2, 3)
    assert fa.erasing_curves(model, IMAGES, maps, classes)[1].shape == (3, 3)


def test_wrapped_and_half_models():
    model, classes = small_vit(), torch.tensor([0, 1, 2])
    maps = {kind: fa.importance(model, IMAGES, kind, classes) for kind in fa.KINDS[:5]}
    curves = fa.erasing_curves(model, IMAGES, maps["rollout"], classes)
    averaged, compiled = torch.optim.swa_utils.AveragedModel(model), torch.compile(model, backend="eager")
    for other in averaged, compiled, nn.DataParallel(model):
        for kind, expected in maps.items():
            torch.testing.assert_close(fa.importance(other, IMAGES, kind, classes), expected)
        for one, expected in zip(fa.erasing_curves(other, IMAGES, maps["rollout"], classes), curves):
            torch.testing.assert_close(one, expected)
        assert torch.equal(fa.shuffled(other).head.weight, fa.shuffled(model).head.weight)
    half = fa.erasing_curves(small_vit().bfloat16(), IMAGES, maps["rollout"], classes)
    torch.testing.assert_close(half[1], curves[1], rtol=0, atol=0.1)
