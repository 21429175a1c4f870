"""Photographs: the right part of each, at any size of decoding; chance that belongs to the image; what is broken is named."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from small_folders import write_pictures
from torch import nn
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

from vit_edu.photographs import Pictures, central_box, check_classes, open_reduced, random_box, small_imagenet


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder that a test may spoil."""
    return write_pictures(tmp_path / "data")


def test_random_parts_are_drawn_as_torchvisions():
    """Area and shape of many parts, by the same distribution; inside the image."""
    image = torch.empty(3, 300, 400)
    ours = [random_box(400, 300) for _ in range(1500)]
    theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)]
    for left, top, right, bottom in ours:
        assert 0 <= left < right <= 400 and 0 <= top < bottom <= 300
    pairs = {
        "width": ([r - a for a, _, r, _ in ours], [w for _, _, _, w in theirs]),
        "height": ([b - t for _, t, _, b in ours], [h for _, _, h, _ in theirs]),
        "left": ([a for a, *_ in ours], [j for _, j, _, _ in theirs]),
        "top": ([t for _, t, *_ in ours], [i for i, *_ in theirs]),
    }
    for name, (a, b) in pairs.items():
        assert ks_2samp(a, b).pvalue > 0.001, name


def test_the_middle_by_hand():
    assert central_box(256, 256) == (16, 16, 240, 240)
    assert central_box(400, 256) == (88, 16, 312, 240)


def test_reduced_decoding_shows_the_same_picture(tmp_path):
    """A large JPEG, decoded small: close to decoding it whole, and the right part of it."""
    path = tmp_path / "large.jpg"
    low = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    picture = nn.functional.interpolate(low, (900, 1200), mode="bicubic").clamp(0, 1)
    Image.fromarray((picture[0] * 255).byte().permute(1, 2, 0).numpy()).save(path, quality=95)
    drafts = []

    def spy(self, mode, size, draft=Image.Image.draft):
        result = draft(self, mode, size)
        drafts.append(self.size)
        return result

    boxes = (300, 100, 900, 700), (0, 0, 1200, 900), (1000, 700, 1100, 800)
    for box in boxes:
        with pytest.MonkeyPatch.context() as patch:
            from PIL.JpegImagePlugin import JpegImageFile

            original = JpegImageFile.draft
            patch.setattr(JpegImageFile, "draft", lambda self, mode, size: spy(self, mode, size, original))
            small = pil_to_tensor(open_reduced(str(path), 64, lambda w, h: box)).float()
        with Image.open(path) as image:
            expected = pil_to_tensor(image.convert("RGB").resize((64, 64), Image.BICUBIC, box)).float()
        assert (small - expected).abs().mean() < 2
    assert drafts == [(150, 113), (150, 113), (1200, 900)]    # 1/8, 1/8, and whole: no pixel to spare


def test_a_picture_depends_on_its_seed_alone(pictures_folder):
    pictures = Pictures(pictures_folder / "train", 16)
    state = torch.get_rng_state()
    views = [pictures[4, seed][0] for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert torch.equal(pictures[4][0], pictures[4][0]) and views[0].shape == (3, 16, 16)
    plain = Pictures(pictures_folder / "train", 16, smallest=None)
    assert torch.equal(plain[4, 1][0], pictures[4][0])


def test_half_of_the_views_are_mirrored(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    ramp = torch.linspace(0, 255, 64).byte()[None, :, None].expand(64, 64, 3)
    Image.fromarray(ramp.contiguous().numpy()).save(folder / "ramp.png")
    pictures = Pictures(tmp_path, 16)
    rising = [float(view[0, 0, -1]) > float(view[0, 0, 0]) for view in (pictures[0, s][0] for s in range(200))]
    assert 70 < sum(rising) < 130


def test_any_decoders_error_names_the_file(tmp_path):
    """PIL raises a SyntaxError for a PNG whose first chunk is damaged."""
    path = tmp_path / "broken.png"
    Image.new("RGB", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[29:33] = b"\0\0\0\0"    # the check sum of its header
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as a picture"):
        open_reduced(path, 4, central_box)


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(3):
        (tmp_path / "a" / f"{i}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="no image of .* can be read"):
        Pictures(tmp_path, 16, skip_unreadable=True)[1]


def test_folders_of_another_layout(data, tmp_path):
    (data / "val" / "dog").mkdir()
    (data / "val" / "dog" / "0.jpg").write_bytes((data / "val" / "cat" / "0.jpg").read_bytes())
    with pytest.raises(ValueError, match="differ: dog in one of them only"):
        check_classes(data)
    (data / "train").rename(data / "training")
    with pytest.raises(FileNotFoundError, match="lacks train and holds training, val"):
        check_classes(data)
    with pytest.raises(FileNotFoundError, match="lacks train and val and holds nothing"):
        check_classes(tmp_path / "nowhere")
    (data / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="must hold a folder of images for each class, and holds nothing"):
        check_classes(data)


def test_the_stand_in_is_a_set_of_its_own_layout(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIT_EDU_DATA", str(tmp_path))
    monkeypatch.setenv("VIT_EDU_DOWNLOAD", "0")
    data = small_imagenet()
    assert capsys.readouterr().out.count("\n") == 1
    assert check_classes(data)[2] == ["china", "flower"]
    counts = [len(Pictures(data / part, 32)) for part in ("train", "val")]
    assert counts == [192, 64]
    (tmp_path / "imagenette160" / "train").mkdir(parents=True)
    assert small_imagenet() == tmp_path / "imagenette160"
