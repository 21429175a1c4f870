"""Photographs: the right part of each, at any size of decoding; chance that belongs to the image; what is broken is named."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from small_folders import write_pictures
from torch import nn
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

from vit_edu import photographs
from vit_edu.photographs import (
    Pictures,
    Reader,
    central_box,
    check_classes,
    check_folder,
    open_reduced,
    photo_folder,
    random_box,
    small_imagenet,
    workers_for,
)


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


def test_a_turned_photograph_is_cut_as_it_is_seen(tmp_path):
    """A camera on its side: the part is that of the upright picture, whole or reduced; as `to_rgb` shows it."""
    ramp = torch.linspace(0, 255, 900).byte()[None, :, None].expand(600, 900, 3)
    exif = Image.Exif()
    exif[0x0112] = 6    # turn by 90 degrees, clockwise
    path = tmp_path / "turned.jpg"
    Image.fromarray(ramp.contiguous().numpy()).save(path, quality=95, exif=exif)
    seen = []
    for size in 400, 32:
        part = open_reduced(path, size, lambda *shape: seen.append(shape) or (0, 0, shape[0], shape[1] / 2))
        pixels = pil_to_tensor(part).float().mean(dim=0)
        assert pixels[0].mean() < 10 and 110 < pixels[-1].mean() < 145, "dark above, half of the way below"
    assert seen == [(600, 900)] * 2


def test_a_copy_is_checked(data):
    facts, problems = check_folder(data, sample=6)
    assert problems == [] and facts[0] == "train: 39 images of 3 classes, 13 to 13 of each"
    assert facts[1].startswith("train: read 6, 48 × 36 pixels")
    for path in (data / "val").glob("*/*.jpg"):
        path.write_bytes(b"no picture")
    _, problems = check_folder(data, sample=8)
    assert len(problems) == 6 and "cannot be read" in problems[0]
    assert problems[-1] == "val: 8 of 8 are broken"
    assert "must hold train/ and val/" in check_folder(data / "train")[1][0]


def test_a_class_that_fits_no_other_and_a_file_too_few(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "IMAGENET", {"train": 1000, "val": 1001})
    image = Image.new("RGB", (8, 8))
    for part in "train", "val":
        for k in range(1000):
            folder = tmp_path / part / (f"n{k:08d}" if k else "backup")
            folder.mkdir(parents=True)
            image.save(folder / "0.png")
    problems = check_folder(tmp_path, sample=2)[1]
    assert problems[0].startswith("a class is called backup, not as n01440764")
    assert problems[1:] == ["val: 1,000 images of 1,000 classes, ImageNet has 1,001"]


def test_one_reader_a_core(monkeypatch, tmp_path):
    """As many as this process may use, shared by the processes that train, within a container's quota."""
    assert workers_for(3) == 3 and workers_for(0) == 0
    monkeypatch.setattr(photographs, "QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(192)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert workers_for(None) == 192
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert workers_for(None) == 24
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert workers_for(None) == 2
    for quota, expected in ("max 100000", 16), ("350000 100000", 4):
        (tmp_path / "cpu.max").write_text(quota)
        monkeypatch.setattr(photographs, "QUOTA", tmp_path / "cpu.max")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
        assert workers_for(None) == expected


SIGNALLED = """
import os, signal, torch
from vit_edu.photographs import Reader

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return i

print(torch.cat([*Reader(Numbers(), 2, num_workers=2)]).tolist())
"""


@pytest.mark.parametrize("taken", ["", "import signal\ndel signal.pthread_sigmask\n"])
def test_signals_do_not_reach_the_readers(taken):
    """Also where the system cannot block signals, as Windows."""
    done = subprocess.run([sys.executable, "-c", taken + SIGNALLED], capture_output=True, text=True)
    assert done.stdout == "[0, 1, 2, 3, 4, 5, 6, 7]\n", done.stderr


def test_signals_are_as_they_were_in_the_process_that_reads(pictures_folder):
    for _ in Reader(Pictures(pictures_folder / "val", 16), 5, num_workers=1):
        assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


STUCK = """
import os, time, torch
from vit_edu import photographs

class Stuck(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, i):
        print(os.getpid(), flush=True)
        time.sleep(1000)

photographs.LONGEST_WAIT = 1
next(iter(photographs.Reader(Stuck(), 1, num_workers=1)))
"""


def test_a_stuck_reader_ends_with_its_run():
    """A disk that hangs is an error after a while, and nothing stays behind."""
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "TimeoutError: no batch came within 1 s" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


SPAWNED = """
import multiprocessing, sys, torch
from vit_edu.photographs import Pictures, Reader
multiprocessing.set_start_method("spawn")
class Own(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        return i
print(torch.cat([*Reader(Own(), 1, num_workers=1)]).tolist())
"""


def test_readers_that_cannot_be_born(tmp_path, pictures_folder):
    """From standard input or a notebook, under spawn, the process reads by itself and says why."""
    piped = subprocess.run([sys.executable], input=SPAWNED, capture_output=True, text=True)
    typed = subprocess.run([sys.executable, "-c", SPAWNED], capture_output=True, text=True)
    for done, reason in (piped, "standard input|in a notebook"), (typed, "in a notebook"):
        assert done.stdout == "[0, 1]\n", done.stderr
        assert done.stderr.count("read without processes") == 1
        assert any(words in done.stderr for words in reason.split("|"))


def test_an_unreadable_file_is_skipped_if_asked(data, capsys):
    broken = data / "train" / "bee" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    pictures = Pictures(data / "train", 16)
    number = [path for path, _ in pictures.folder.samples].index(str(broken))
    with pytest.raises(ValueError, match=r"3\.jpg cannot be read as a picture.*--skip-unreadable"):
        pictures[number, 1]
    image, label = Pictures(data / "train", 16, skip_unreadable=True)[number, 1]
    assert torch.equal(image, pictures[number + 1, 1][0]) and label == 1
    assert "3.jpg" in capsys.readouterr().err


FETCH = """
import os, sys, time
from pathlib import Path
from vit_edu import photographs

def download(root, **_):
    with open(Path(root) / "log", "a") as log:
        log.write("begun ")
    time.sleep(0.5)
    for i in range(13_394 if "whole" in sys.argv else 3):
        folder = Path(root) / "imagenette2-160" / "train" / "n01440764"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.JPEG").touch()

photographs.Imagenette = download
print(photographs.small_imagenet().name)
"""


def test_one_process_fetches_and_others_wait_beside_the_data(tmp_path):
    around = os.environ | {"VIT_EDU_DATA": str(tmp_path), "VIT_EDU_DOWNLOAD": "1"}
    command = [sys.executable, "-c", FETCH, "whole"]
    running = [subprocess.Popen(command, env=around, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in running] == ["imagenette2-160\n"] * 2
    assert (tmp_path / "log").read_text() == "begun "
    assert (tmp_path / "imagenette.lock").stat().st_mode & 0o666 == 0o666, "another user may take it"


def test_what_was_unpacked_in_part_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_EDU_DATA", str(tmp_path))
    (tmp_path / "imagenette2-160" / "train" / "n01440764").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds 0 of 13,394 images.*remove the folder"):
        small_imagenet()


def test_a_folder_under_the_users_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo_folder("~/photos")
    assert check_classes("~/photos")[2] == ["china", "flower"]
    assert len(Pictures("~/photos/val", 16)) == 64
