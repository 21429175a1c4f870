"""Data sets: known copies alone are accepted, what is damaged is named and kept, and the loaders deal fairly."""

import hashlib
import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader

from vit_edu import data
from vit_edu.data import DeviceLoader, TensorImages, cifar10, cifar10_or_digits, data_folder, digits32, image_folder

REAL = data_folder() / "cifar-10-batches-py"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="no CIFAR-10: set VIT_EDU_DATA to a folder that holds it")


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A root with a small set in CIFAR-10's layout, the one known copy for the time being: 20 images a file."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for name in data.FILES:
        batch = {"data": chance.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": list(range(10)) * 2}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = {"label_names": [f"class {k}" for k in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    sums = tuple(hashlib.md5((folder / name).read_bytes()).hexdigest() for name in data.FILES)
    monkeypatch.setattr(data, "COPIES", {"a small copy": sums})
    meta = dict(torchvision.datasets.CIFAR10.meta)
    meta["md5"] = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    return tmp_path


def test_a_known_copy_is_read_and_cached(copy):
    """The cache gives the same arrays, without the batches; images and labels belong together."""
    images = cifar10(copy, download=False)
    assert images.provenance == "a small copy" and images.name == "cifar10" and len(images.classes) == 10
    assert images.train_images.shape == (100, 3, 32, 32) and images.test_images.shape == (20, 3, 32, 32)
    batch = pickle.loads((copy / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert (images.test_images.numpy() == batch["data"].reshape(20, 3, 32, 32)).all()
    assert images.test_labels.tolist() == batch["labels"]
    shutil.rmtree(copy / "cifar-10-batches-py")
    again = cifar10(copy, download=False)
    for name in data.ARRAYS:
        assert torch.equal(getattr(images, name), getattr(again, name))
    assert (again.name, again.provenance, again.classes) == (images.name, images.provenance, images.classes)


@pytest.mark.parametrize("damage", ["empty", "half", "foreign"])
def test_a_damaged_cache_is_written_again(damage, copy):
    cifar10(copy, download=False)
    cache = copy / "cifar10.safetensors"
    whole = cache.read_bytes()  # its facts may be written in another order
    cache.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "foreign": b"\x02\0\0\0\0\0\0\0{}"}[damage])
    assert len(cifar10(copy, download=False).train_images) == 100
    assert sorted(cache.read_bytes()) == sorted(whole)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_file_is_named_and_kept(name, copy):
    file = copy / "cifar-10-batches-py" / name
    file.write_bytes(file.read_bytes()[:-1])
    before = sorted((p, p.stat().st_size) for p in copy.rglob("*"))
    with pytest.raises(ValueError, match=rf"{name} differ from every known copy.*download CIFAR-10 again"):
        cifar10(copy)
    assert sorted((p, p.stat().st_size) for p in copy.rglob("*") if p.suffix != ".lock") == before


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_a_partial_copy_says_what_is_missing(name, copy):
    (copy / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}; move the folder away"):
        cifar10(copy)


def test_files_of_two_copies_do_not_make_one(copy, monkeypatch):
    (sums,) = data.COPIES.values()
    other = ("0" * 32, *sums[1:])
    monkeypatch.setattr(data, "COPIES", {"one": other, "two": (*sums[:1], "0" * 32, *sums[2:])})
    with pytest.raises(ValueError, match="data_batch_1 differ|data_batch_2 differ"):
        cifar10(copy)


def test_a_damaged_download_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    """An archive that lies there is checked by torchvision, not unpacked, and kept."""

    def refuse(*args, **kwargs):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.delenv("VIT_EDU_DOWNLOAD", raising=False)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", refuse)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)
    with pytest.raises(ValueError, match="move cifar-10-python.tar.gz away"):
        cifar10(tmp_path)
    assert archive.read_bytes() == b"half of it"


def test_absent_and_no_download(tmp_path, monkeypatch, capsys):
    """An error by name; digits, in one line, for who accepts them."""
    with pytest.raises(FileNotFoundError, match="VIT_EDU_DATA"):
        cifar10(tmp_path, download=False)
    monkeypatch.setenv("VIT_EDU_DOWNLOAD", "0")
    images = cifar10_or_digits(tmp_path)
    assert images.name == "digits"
    assert capsys.readouterr().out.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_damaged_copy_is_not_replaced_by_digits(copy, monkeypatch):
    monkeypatch.setenv("VIT_EDU_DOWNLOAD", "0")
    (copy / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(ValueError, match="lacks test_batch"):
        cifar10_or_digits(copy)


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), TimeoutError("timed out")])
def test_a_connection_that_breaks_is_no_download(error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.delenv("VIT_EDU_DOWNLOAD", raising=False)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fail)
    with pytest.raises(FileNotFoundError, match=rf"no download \({error}\)"):
        cifar10(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_still_gives_the_data(copy, capsys):
    copy.chmod(0o500)
    assert len(cifar10(copy).train_images) == 100
    assert "no cache" in capsys.readouterr().out


def test_the_data_folder(monkeypatch):
    monkeypatch.setenv("VIT_EDU_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    monkeypatch.delenv("VIT_EDU_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_folder() == Path("/cache/vit_edu")


@needs_data
def test_the_real_set(monkeypatch):
    """Sizes, classes and the published moments; a later start neither hashes nor unpickles anything."""
    images = cifar10(download=False)
    monkeypatch.setattr(data, "known_copy", lambda folder: pytest.fail("hashed again"))
    assert cifar10(download=False).provenance == images.provenance
    assert images.train_images.shape == (50_000, 3, 32, 32) and images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_labels.bincount().tolist() == [5000] * 10
    assert images.test_labels.bincount().tolist() == [1000] * 10
    assert images.classes[0] == "airplane" and images.classes[9] == "truck"
    mean, std = images.moments
    assert torch.allclose(mean, torch.tensor([0.49140, 0.48216, 0.44653]), atol=1e-4)
    assert torch.allclose(std, torch.tensor([0.24703, 0.24348, 0.26159]), atol=1e-4)
    assert images.provenance in data.COPIES


def test_moments_by_numpy():
    images = digits32()
    mean, std = images.moments
    array = images.train_images.numpy() / 255
    assert np.allclose(mean, array.mean((0, 2, 3)), atol=1e-6) and np.allclose(std, array.std((0, 2, 3)), atol=1e-6)


def test_digits_have_the_shape_of_cifar10():
    images = digits32()
    assert images.train_images.shape == (1437, 3, 32, 32) and images.train_images.dtype == torch.uint8
    assert len(images.test_labels) == 360 and images.test_labels.bincount().tolist() == [36] * 10
    assert images.train_images.max() == 255


def test_held_out_images_are_training_images_each_once():
    images = digits32()
    held = images.held_out(100)
    assert held.test_labels.bincount().tolist() == [10] * 10
    whole = torch.cat([held.train_images, held.test_images]).flatten(1).tolist()
    assert sorted(whole) == sorted(images.train_images.flatten(1).tolist())
    assert torch.equal(held.test_images, images.held_out(100).test_images)
    assert "held out" in held.provenance and images.provenance in held.provenance


def numbered(n=50) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n)
    return labels[:, None, None, None].expand(-1, 3, 2, 2).byte(), labels


def test_the_device_loader_deals_each_image_once():
    images, labels = numbered()
    loader = DeviceLoader(images, labels, 8, shuffle=True)
    batches = list(loader)
    assert len(batches) == len(loader) == 6  # 48 of 50: the incomplete batch is left out
    seen = torch.cat([labels for _, labels in batches])
    assert len(seen.unique()) == 48 and not torch.equal(seen, torch.arange(48))
    assert all((x[:, 0, 0, 0] == y).all() for x, y in batches)


def test_the_plain_order_keeps_all():
    images, labels = numbered()
    loader = DeviceLoader(images, labels, 8)
    assert len(loader) == 7
    assert torch.equal(torch.cat([y for _, y in loader]), labels)


def test_repeated_images():
    loader = DeviceLoader(*numbered(), 12, shuffle=True, repeats=3)
    batches = [y for _, y in loader]
    assert len(batches) == len(loader) == 4
    for labels in batches:
        assert labels.unique(return_counts=True)[1].tolist() == [3] * 4
    assert len(torch.cat(batches).unique()) == 16


def test_the_order_is_torchs_chance():
    orders = []
    for seed in 0, 0, 1:
        torch.manual_seed(seed)
        orders.append(torch.cat([y for _, y in DeviceLoader(*numbered(), 10, shuffle=True)]).tolist())
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    "size, repeats, message",
    [(0, 1, "batch_size 0"), (51, 1, "51 does not fit 50"), (8, 3, "8 cannot hold 3 views"), (8, 0, "hold 0 views")],
)
def test_batches_that_cannot_be(size, repeats, message):
    with pytest.raises(ValueError, match=message):
        DeviceLoader(*numbered(), size, shuffle=True, repeats=repeats)


def test_views_in_plain_order_show_every_image():
    """A shuffled epoch shows a third of the images, another third next time; in plain order each comes three times."""
    loader = DeviceLoader(*numbered(), 12, repeats=3)
    batches = [y for _, y in loader]
    assert len(batches) == len(loader) == 13
    assert torch.cat(batches).unique(return_counts=True)[1].tolist() == [3] * 50
    shuffled = DeviceLoader(*numbered(), 12, shuffle=True, repeats=3)
    epochs = [set(torch.cat([y for _, y in shuffled]).tolist()) for _ in range(8)]
    assert len(set().union(*epochs)) > 40


def test_torchs_loader_gives_the_same_images():
    images, labels = numbered()
    theirs = DataLoader(TensorImages(images, labels), batch_size=8)
    for (a, b), (c, d) in zip(theirs, DeviceLoader(images, labels, 8), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)
    doubled = TensorImages(images, labels, lambda image: image * 2)
    assert (doubled[3][0] == 6).all() and doubled[3][1] == 3


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB" if i else "L", (8, 8), 40 * k).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_of_images(folder):
    """Grey pictures become RGB; classes are the folders' names."""
    found = image_folder(folder)
    assert found.classes == ["cat", "dog"] and len(found) == 6
    assert all(image.mode == "RGB" for image, _ in found)


def test_an_unreadable_image_is_named_and_kept(folder):
    broken = folder / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"dog.1\.png cannot be read as a picture.*again, or remove it"):
        list(image_folder(folder))
    assert broken.exists()


def test_a_folder_of_another_layout(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds 0\.png, 1\.png, 2\.png"):
        image_folder(folder / "cat")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"without a picture: empty \(nothing at all\); fill or remove"):
        image_folder(folder)
    with pytest.raises(FileNotFoundError, match="holds nothing"):
        image_folder(folder / "empty")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        image_folder(folder / "nowhere")


def test_what_no_person_made_is_no_class_and_no_image(folder):
    """Jupyter's, macOS's and a NAS's leavings, beside the classes and inside one; the numbers stay."""
    plain = image_folder(folder).samples
    for name in ".ipynb_checkpoints", "@eaDir", "__MACOSX":
        for place in folder, folder / "cat":
            (place / name).mkdir()
            Image.new("RGB", (8, 8)).save(place / name / "0.png")
    Image.new("RGB", (8, 8)).save(folder / "cat" / "._0.png")
    (folder / ".DS_Store").write_bytes(b"x")
    found = image_folder(folder)
    assert found.classes == ["cat", "dog"] and found.samples == plain


def test_pictures_in_subfolders_of_a_class_belong_to_it(folder):
    (folder / "cat" / "more").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "cat" / "more" / "9.JPG")
    assert [label for _, label in image_folder(folder).samples] == [0] * 4 + [1] * 3


def test_a_class_without_readable_pictures_says_what_it_holds(folder):
    (folder / "owl").mkdir()
    for name in "a.heic", "b.heic", "notes.txt":
        (folder / "owl" / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"owl \(2 × \.heic, 1 × \.txt\).*\.jpg"):
        image_folder(folder)
    Image.new("RGB", (8, 8)).save(folder / "owl" / "c.gif")
    assert len(image_folder(folder)) == 7


def test_the_users_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(image_folder(f"~/{folder.name}")) == 6
    monkeypatch.setenv("VIT_EDU_DATA", f"~/{folder.name}")
    assert data_folder() == folder
    with pytest.raises(FileNotFoundError, match=f"no CIFAR-10 in {folder}"):
        cifar10(f"~/{folder.name}", download=False)


def test_threads_with_a_cold_cache_wait_for_the_one_that_fills_it(copy, monkeypatch):
    """The batches are read once; all get the same images, and nothing but the cache and a lock is left."""
    read, count, start = data.read_batches, [], threading.Barrier(4)

    def counted(*arguments):
        count.append(1)
        return read(*arguments)

    def go(_):
        start.wait()
        return cifar10(copy, download=False)

    monkeypatch.setattr(data, "read_batches", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(go, range(4)))
    assert len(count) == 1
    assert all(torch.equal(found[0].train_images, other.train_images) for other in found)
    assert {path.name for path in copy.iterdir()} <= {"cifar-10-batches-py", "cifar10.safetensors", ".cifar10.lock"}
