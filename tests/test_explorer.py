"""The explorers in a real browser: PyTorch's numbers, by mouse, touch and keyboard, over http and from the disk."""

import io
import re
import statistics

import nbformat
import numpy as np
import pytest
import torch
from accessible import violations
from chapters import ROOT
from matplotlib import colormaps
from PIL import Image
from quiet_pages import HEAD, quiet_pages, soon
from torch import nn

from vit_edu import VisionTransformer, patchify
from vit_edu.inspection import early_logits
from vit_edu.widgets import AttentionExplorer, DigitReader, PatchExplorer, PositionExplorer, SoftmaxTemperature
from vit_edu.weights import Preparation
from vit_edu.widgets.component import viridis

NAMES = ["plane", "car", "bird", "cat"]
STAGE = ".stage[tabindex]"  # the board that the keyboard reaches; the picture beside a map is one for the pointer alone
ANY_MEAN, ANY_STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])


def random_vit(**arguments) -> VisionTransformer:
    """A ViT with random float16 weights whose attention is far from even, and differs from head to head."""
    torch.manual_seed(0)
    model = VisionTransformer(**(dict(img_size=16, patch_size=4, num_classes=4, embed_dim=24, depth=3, n_heads=3,
                                      mlp_ratio=2) | arguments)).eval()  # fmt: skip
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            scale = 0.6 if "qkv" in name or "pos_embed" in name else 0.2
            tensor.copy_((tensor + scale * torch.randn_like(tensor)).half())
    if model.config["in_channels"] == 3:
        model.preparation = Preparation(ANY_MEAN, ANY_STD)
    return model


def tiny_vit() -> VisionTransformer:
    """The size of the model that readers meet: 6 blocks of 3 heads, 64 patches."""
    return random_vit(img_size=32, embed_dim=96, depth=6, num_classes=10, pool="mean")


def random_images(n=3, size=(16, 16), channels=3) -> torch.Tensor:
    return torch.randint(256, (n, channels, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def explorer(model=None, n=3, **arguments) -> AttentionExplorer:
    model = model or random_vit()
    channels = model.patch_embed.proj.in_channels
    arguments = dict(mean=ANY_MEAN[:channels], std=ANY_STD[:channels], own_picture=False) | arguments
    return AttentionExplorer(model, random_images(n, model.patch_embed.img_size, channels), **arguments)


def expected(model, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Attention (L, h, N, N), from q and k as a hook sees them, and logits."""
    channels = len(image)
    x = (image[None].float() / 255 - ANY_MEAN[:channels, None, None]) / ANY_STD[:channels, None, None]
    seen = []
    hooks = [block.attn.qkv.register_forward_hook(lambda _, __, qkv: seen.append(qkv[0])) for block in model.blocks]
    with torch.no_grad():
        logits = model(x)[0]
    for hook in hooks:
        hook.remove()
    maps = []
    for qkv in seen:
        q, k, _ = qkv.reshape(len(qkv), 3, model.blocks[0].attn.n_heads, -1).double().permute(1, 2, 0, 3)
        maps.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1))
    return torch.stack(maps).numpy(), logits.numpy()


def rollout(maps: np.ndarray, block: int) -> np.ndarray:
    product = np.eye(maps.shape[-1])
    for step in 0.5 * maps.mean(axis=1)[: block + 1] + 0.5 * np.eye(maps.shape[-1]):
        product = step / step.sum(axis=-1, keepdims=True) @ product
    return product


@pytest.fixture
def show(windows, tmp_path):
    with quiet_pages(windows, tmp_path, width=1280) as open_page:
        yield open_page


def ask_all(page, states: list[dict], index=0) -> list[dict]:
    """The page's own weights and logits for some states; what a state leaves out is as shown."""
    return page.locator(".attention-explorer").nth(index).evaluate(
        """(root, states) => states.map((detail) => {
          root.dispatchEvent(new CustomEvent("vit-explore", {detail}));
          return detail.answer;
        })""",
        states,
    )


def ask(page, index=0, **state) -> dict:
    return ask_all(page, [state], index)[0]


def rows_of(page, N: int, **state) -> np.ndarray:
    """The whole matrix (N, N) of weights, a query after the other."""
    return np.array([answer["weights"] for answer in ask_all(page, [state | {"query": q} for q in range(N)])])


def drawn(page, canvas=".stage canvas") -> np.ndarray:
    """The values of a map, read from its pixels: shares of its largest."""
    rgba = page.locator(canvas).first.evaluate(
        """canvas => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
          copy.drawImage(canvas, 0, 0);
          return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
    )
    colours = ["#" + bytes(rgba[i : i + 3]).hex() for i in range(0, len(rgba), 4)]
    return np.array([viridis().index(colour[1:]) / 255 for colour in colours])


# ---- The numbers

SHAPES = [
    dict(),
    dict(pool="mean"),
    dict(n_registers=2),
    dict(pool="mean", n_registers=1, depth=1, n_heads=1),
    dict(img_size=(12, 20), positions="sincos2d"),
    dict(in_channels=1),
]


@pytest.mark.parametrize("arguments", SHAPES, ids=lambda arguments: ",".join(arguments) or "plain")
def test_weights_equal_pytorch(show, arguments):
    """Raw within 1/255 of the row's largest, rollout within 0.02 (here: much closer), on every picture."""
    model = random_vit(**arguments)
    page = show(explorer(model)._repr_html_())
    images = random_images(3, model.patch_embed.img_size, model.patch_embed.proj.in_channels)
    for picture, image in [(0, images[0]), (2, images[2])]:
        maps, logits = expected(model, image)
        L, h, N, _ = maps.shape
        assert maps.max() > 3 / N  # far from even
        for block in {0, L - 1}:
            for head in {0, h - 1}:
                got, truth = rows_of(page, N, picture=picture, block=block, head=head), maps[block, head]
                np.testing.assert_array_less(abs(got - truth).max(axis=-1), truth.max(axis=-1) / 255)
        means = rows_of(page, N, picture=picture, block=0, head="mean")
        np.testing.assert_allclose(means, maps[0].mean(axis=0), atol=maps[0].max() / 255)
        rows = rows_of(page, N, picture=picture, block=L - 1, head="rollout")
        np.testing.assert_allclose(rows, rollout(maps, L - 1), atol=0.005)
        np.testing.assert_allclose(np.sum(rows, axis=1), 1, atol=1e-5)
        together = ask(page, picture=picture, block=0, head=0, query="all")["weights"]
        np.testing.assert_allclose(together, maps[0, 0, model.n_prefix :].mean(axis=0), atol=maps.max() / 255)
        np.testing.assert_allclose(ask(page, picture=picture)["logits"], logits, atol=1e-4)


def test_what_is_drawn_is_the_model(show):
    """The pixels of the map and the numbers in words, raw and rollout."""
    model = random_vit(n_registers=2)
    page = show(explorer(model, labels=[0, 1, 2], class_names=NAMES)._repr_html_())
    maps, logits = expected(model, random_images()[0])
    row = maps[-1].mean(axis=0)[0, 3:]  # the class token's, to the patches
    np.testing.assert_allclose(drawn(page), row / row.max(), atol=1.5 / 255)
    order = np.argsort(-row)[:5]
    words = [f"row {i // 4}, column {i % 4}" for i in order]
    assert page.locator(".top li > span").all_inner_texts() == words
    shares = [float(text.split()[0]) for text in page.locator(".top b").all_inner_texts()]
    np.testing.assert_allclose(shares, 100 * row[order], atol=0.6)
    rest = page.locator(".elsewhere").inner_text()
    given = [float(x) for x in re.findall(r"([\d.]+)\s%", rest)]
    sums = maps[-1].mean(axis=0)[0]
    np.testing.assert_allclose(given, [100 * sums[0], 100 * sums[1:3].sum(), 100 * (row.sum() - row[order].sum())], atol=0.8)

    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-probabilities)
    assert [t.split()[0] for t in page.locator(".answers li > span").all_inner_texts()] == [NAMES[k] for k in best]
    answers = [float(text.split()[0]) for text in page.locator(".answers b").all_inner_texts()]
    np.testing.assert_allclose(answers, 100 * probabilities[best], atol=0.6)
    assert "✓" in page.locator(".answers li", has_text="plane").inner_text()

    page.get_by_role("radio", name="rollout: all blocks up to this one").check()
    far = rollout(maps, 2)[0, 3:]
    np.testing.assert_allclose(drawn(page), far / far.max(), atol=0.02)
    assert page.locator("fieldset:disabled legend").all_inner_texts() == ["Head"]
    assert page.locator(".title").inner_text() == "Where the class token looks: rollout through blocks 0 to 2"


def tiles_of(maps: np.ndarray, query: int, prefix: int) -> list[np.ndarray]:
    """The values of the small maps in their order: rows are the heads, their mean and rollout, columns are blocks."""
    blocks, heads = range(len(maps)), range(maps.shape[1])
    rows = [[maps[block, head] for block in blocks] for head in heads]
    rows += [[maps[block].mean(axis=0) for block in blocks], [rollout(maps, block) for block in blocks]]
    return [values[query, prefix:] for row in rows for values in row]


def drawn_tiles(page) -> list[np.ndarray]:
    return [drawn(page, f".atlas label:nth-of-type({i + 1}) canvas") for i in range(page.locator(".atlas label").count())]


def of_bar(page) -> tuple[str, float, float, float]:
    """What the colour bar of the small maps says: its words, the values in its middle and at its end, where its line is."""
    words, line, numbers = page.locator(".scales .scale").evaluate(
        "e => [e.firstChild.innerText, parseFloat(e.querySelector('.even').style.left),"
        " [...e.lastChild.children].map(s => s.innerText)]"
    )
    assert numbers[0] == "0\u00a0%"
    return words, *(float(text.split()[0]) / 100 for text in numbers[1:]), line / 100


@pytest.mark.parametrize("roots", [True, False])
def test_small_maps_share_a_scale(show, roots):
    """One scale for all: the same colour is the same weight in every tile, and the bar gives it. Roots if they must be."""
    model = random_vit(n_registers=2)
    if not roots:  # attention so even that every tile can be seen without
        with torch.no_grad():
            for block in model.blocks:
                block.attn.qkv.weight.mul_(0.1)
                block.attn.qkv.bias.mul_(0.1)
    page = show(explorer(model)._repr_html_())
    maps, _ = expected(model, random_images()[0])
    truth, N = tiles_of(maps, 0, 3), maps.shape[-1]
    largest = max(values.max() for values in truth)
    assert (1 / N < largest / 4) == roots
    shown = drawn_tiles(page)
    for tile, values in zip(shown, truth, strict=True):
        np.testing.assert_allclose(largest * tile ** (2 if roots else 1), values, atol=0.02 * largest)
    assert sum(tile.max() == 1 for tile in shown) == 1  # bright in one tile alone
    words, middle, end, line = of_bar(page)
    assert words == "One scale for all tiles" + (", by square roots" if roots else "")
    np.testing.assert_allclose([middle, end], [largest / 4 if roots else largest / 2, largest], rtol=0.06)
    share = 1 / N / largest
    np.testing.assert_allclose(line, share**0.5 if roots else share, atol=0.01)
    name = page.locator(".scales .scale").get_attribute("aria-label")
    assert name.startswith(f"{words}: colours from dark, 0 %, to bright, ")
    assert ("square roots" in page.locator(".note").inner_text()) == roots


def test_small_maps_each_on_its_own_scale(show):
    """The other choice, by keyboard; then each tile says its largest weight. It stays when something else changes."""
    page = show(explorer(random_vit(n_registers=2))._repr_html_())
    assert page.get_by_role("radio", name="one scale for all tiles").is_checked()
    assert set(page.locator(".largest").all_inner_texts()) == {""}
    page.get_by_role("radio", name="one scale for all tiles").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="each tile on a scale of its own").is_checked()
    assert "compare places, not brightness" in page.locator("[aria-live]").inner_text()
    for query in (0, 3 + 4):
        states = [dict(query=query, head=head, block=block) for head in (0, 1, 2, "mean", "rollout") for block in range(3)]
        truth = [np.array(answer["weights"])[3:] for answer in ask_all(page, states)]
        for tile, values in zip(drawn_tiles(page), truth, strict=True):
            np.testing.assert_allclose(tile, values / values.max(), atol=0.5001 / 255)
        numbers = [float(text.split()[0]) / 100 for text in page.locator(".largest").all_inner_texts()]
        np.testing.assert_allclose(numbers, [values.max() for values in truth], atol=0.0051)
        assert page.locator(".scales .scale p").all_inner_texts()[0] == "Each tile its own scale"
        assert page.locator(".scales .even").is_hidden()
        page.mouse.click(*patch_centre(page, 1, 0))
    page.get_by_role("radio", name="each tile on a scale of its own").press("ArrowLeft")
    assert page.locator(".scales .even").is_visible()
    assert set(page.locator(".largest").all_inner_texts()) == {""}


def test_the_colours_are_viridis():
    assert viridis() == [bytes(round(255 * v) for v in colour).hex() for colour in colormaps["viridis"].colors]


# ---- The hands


def patch_centre(page, row: int, column: int, grid=4, index=0) -> tuple[float, float]:
    stage = page.locator(STAGE).nth(index)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / grid, box["y"] + (row + 0.5) * box["height"] / grid


def test_mouse(show):
    page = show(explorer()._repr_html_())
    title, readout = page.locator(".title"), page.locator(".readout")
    assert title.inner_text() == "Where the class token looks: block 2, mean of the heads"
    page.mouse.move(*patch_centre(page, 1, 2))
    assert re.fullmatch(r"Row 1, column 2: [\d.]+\s%", readout.inner_text())
    value = float(re.search(r"([\d.]+)\s%", readout.inner_text())[1])
    assert abs(value - 100 * ask(page)["weights"][1 + 6]) < 0.6
    page.mouse.down()
    assert title.inner_text() == "Where the patch in row 1, column 2 looks: block 2, mean of the heads"
    page.mouse.move(*patch_centre(page, 3, 0))
    page.mouse.up()
    assert ask(page)["state"]["query"] == 1 + 12
    assert page.get_by_role("radio", name="one patch").is_checked()
    page.mouse.move(0, 0)
    assert readout.inner_text().startswith("Press a patch to see where it looks.")
    for name, part in {"block 0": ("block", 0), "head 1": ("head", 1), "all patches, on average": ("query", "all"),
                       "Block 1, head 2": ("block", 1), "picture 2": ("picture", 2)}.items():  # fmt: skip
        before = drawn(page)
        page.get_by_role("radio", name=re.compile(f"^{name}$", re.I)).first.click()
        assert ask(page)["state"][part[0]] == part[1]
        assert (drawn(page) != before).any()


def test_touch(show):
    page = show(explorer()._repr_html_(), width=360, has_touch=True, is_mobile=True)
    page.touchscreen.tap(*patch_centre(page, 2, 1))
    soon(page, lambda: ask(page)["state"]["query"] == 1 + 9)
    assert page.locator(".readout").inner_text().startswith("Row 2, column 1: ")
    client = page.context.new_cdp_session(page)
    touch = lambda kind, *at: client.send(  # noqa: E731
        "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]}
    )
    scrolled = page.evaluate("scrollY")
    touch("touchStart", patch_centre(page, 1, 0))
    for column in (0.5, 1, 1.5, 2, 2.5, 3):
        touch("touchMove", patch_centre(page, 1, column))
    soon(page, lambda: ask(page)["state"]["query"] == 1 + 7)  # the finger draws along
    touch("touchEnd")
    assert page.evaluate("scrollY") == scrolled
    page.locator(".atlas label").nth(1).tap()
    soon(page, lambda: ask(page)["state"] | {"block": 1, "head": 0} == ask(page)["state"])
    small = page.locator(".attention-explorer :is(.vit-choice label, .atlas label, .file):visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).filter(b => b.width < 24 || b.height < 24).length"
    )
    assert small == 0


def test_keyboard(show):
    page = show(explorer(random_vit(pool="mean"))._repr_html_())
    spoken = page.locator("[aria-live]")
    page.keyboard.press("Tab")  # the pictures, one stop
    page.keyboard.press("ArrowRight")
    assert ask(page)["state"]["picture"] == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "stage"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")  # the middle patch first, then beside it
    assert ask(page)["state"]["query"] == 10
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert ask(page)["state"]["query"] == 5
    assert spoken.inner_text().startswith("Where the patch in row 1, column 1 looks: block 2, mean of the heads. Most at row ")
    page.keyboard.press("Shift+ArrowRight")
    assert re.fullmatch(r"Row 1, column 2: [\d.]+\s%", spoken.inner_text())
    assert ask(page)["state"]["query"] == 5
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    assert ask(page)["state"]["query"] == 13
    page.keyboard.press("Escape")
    assert ask(page)["state"]["query"] == "all"
    stops = []
    for _ in range(8):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.type"))
    assert stops == ["button", "all patches, on average", "block 2", "mean of the heads", "raw: one block alone", "range",
                     "one scale for all tiles", "block 2, mean of the heads"]  # fmt: skip
    page.keyboard.press("ArrowUp")  # in the tiles: another head
    page.keyboard.press("ArrowLeft")  # another block
    state = ask(page)["state"]
    assert (state["head"], state["block"]) == (2, 1)
    assert page.evaluate("document.activeElement.ariaLabel") == "block 1, head 2"
    for key, block, head in ("Home", 0, 2), ("End", 2, 2), ("Control+Home", 0, 0), ("Control+End", 2, "rollout"):
        page.keyboard.press(key)
        state = ask(page)["state"]
        assert (state["block"], state["head"]) == (block, head)


@pytest.mark.parametrize("which", ["attention", "position", "patch"])
def test_home_and_end(show, which):
    """They lead along the row, with Ctrl through all, with Shift they read; the page stays, and other keys are its own."""
    model = random_vit(pool="mean", img_size=(12, 20))
    html = {"attention": lambda: explorer(model), "position": lambda: PositionExplorer(model),
            "patch": lambda: PatchExplorer(random_images(1, (12, 20))[0], 4)}[which]()._repr_html_()  # fmt: skip
    page = show('<p style="height: 200px">', html, '<p style="height: 3000px">')
    stage, root = page.locator(STAGE), page.locator(".vit-widget")

    def at() -> int:
        if which == "attention":
            return ask(page)["state"]["query"]
        if which == "position":
            return int(root.get_attribute("data-at"))
        return int(re.search(r"Vector (\d+)", page.locator(".vector").inner_text())[1])

    stage.focus()
    page.evaluate("scrollTo(0, 150)")
    keys = [("Home", 5), ("End", 9), ("End", 9), ("Control+Home", 0), ("ArrowDown", 5), ("Control+End", 14)]
    for key, place in [*keys, ("Home", 10), ("ArrowUp", 5)]:  # 3 rows of 5; it begins in row 1, also if no patch asks yet
        page.keyboard.press(key)
        assert at() == place, key
    if which != "patch":
        page.keyboard.press("Shift+End")
        assert page.locator("[aria-live]").inner_text().startswith("Row 1, column 4: ")
        page.keyboard.press("Control+Shift+Home")
        assert page.locator("[aria-live]").inner_text().startswith("Row 0, column 0: ")
        assert at() == 5
    assert page.evaluate("scrollY") == 150
    assert "Home and End the first and last of the row, with Ctrl of all" in stage.get_attribute("aria-label")
    for key in "PageUp", "PageDown":  # asked of the event: scrolling takes its time
        press = "(e, key) => e.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}))"
        assert stage.evaluate(press, key), f"{key} is the browser's"


# The element that has the focus, and whether its ring is whole in everything around it that hides what overflows.
RING = """() => {
  const active = document.activeElement, near = [active, active.nextElementSibling, active.closest(".file")].filter(Boolean);
  const ringed = near.find((e) => getComputedStyle(e).outlineStyle === "solid");
  const name = (active.ariaLabel ?? active.innerText ?? active.type).slice(0, 25);
  const what = active.closest(".vit-widget").className.split(" ")[1] + " " + name;
  if (!ringed) return [what, "no ring"];
  const style = getComputedStyle(ringed), width = parseFloat(style.outlineWidth), room = width + parseFloat(style.outlineOffset);
  const box = ringed.getBoundingClientRect(), hidden = [];
  for (let e = ringed.parentElement; e; e = e.parentElement) {
    if (e.tagName === "BODY" || getComputedStyle(e).overflowX === "visible") continue;
    const clip = e.getBoundingClientRect(), most = room - 0.01;
    hidden.push(box.left - most < clip.left, box.right + most > clip.right, box.top - most < clip.top, box.bottom + most > clip.bottom);
  }
  return [what, width < 3 ? "thin" : hidden.some(Boolean) ? `cut: ${hidden}` : hidden.length ? "whole" : "no container"];
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_focus_rings_are_whole(show, width):
    """Everything that Tab reaches, in a container that hides what overflows it, as a page's outputs are."""
    small = random_vit(img_size=8, patch_size=2, in_channels=1, num_classes=10)
    pictures = [*every_explorer(), DigitReader(small)._repr_html_(), SoftmaxTemperature()._repr_html_()]
    holders = (f'<div style="overflow: hidden">{html}</div>' for html in pictures)
    page = show(*holders, '<button id="end">', width=width)
    seen = []
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "end":
            break
        seen.append(page.evaluate(RING))
        if page.evaluate("!!document.activeElement.closest('.atlas')"):
            page.keyboard.press("Control+End")  # the last tile, at the edge of the box in which tiles scroll
            seen.append(page.evaluate(RING))
    assert len(seen) > 30
    assert {what.split()[0] for what, _ in seen} == {
        "attention-explorer", "patch-explorer", "position-explorer", "digit-reader", "softmax-temperature"}  # fmt: skip
    assert [each for each in seen if each[1] != "whole"] == []


def test_counting_from_0(show):
    """Blocks, heads, registers, rows, columns and pictures, as in the chapters: in labels, in tiles, in words."""
    model = random_vit(n_registers=2)
    page = show(explorer(model)._repr_html_())
    labels = page.locator(".attention-explorer .vit-choice label span").all_inner_texts()
    assert "".join(label for label in labels if label.isdigit()) == "012012"
    assert [label for label in labels if "register" in label] == ["register 0", "register 1"]
    assert page.locator(".atlas .column").all_inner_texts() == ["0", "1", "2"]
    assert page.locator(".atlas .head").all_inner_texts() == ["head 0", "head 1", "head 2", "mean", "rollout"]
    names = page.locator(".atlas input").evaluate_all("all => all.map(e => e.ariaLabel)")
    assert names[:3] == ["block 0, head 0", "block 1, head 0", "block 2, head 0"]
    assert names[-3:] == ["rollout through block 0", "rollout through blocks 0 to 1", "rollout through blocks 0 to 2"]
    assert page.locator(".thumbs input").first.get_attribute("aria-label") == "picture 0"
    page.get_by_role("radio", name="register 1").check()
    assert page.locator(".title").inner_text() == "Where register 1 looks: block 2, mean of the heads"
    assert ask(page)["state"]["query"] == 2
    page.locator(STAGE).press("Control+Home")
    assert page.locator("[aria-live]").inner_text().startswith("Where the patch in row 0, column 0 looks: block 2, ")
    still = explorer(model).still
    assert "Where the class token looks: block 2, mean of the heads." in still
    page = show(DigitReader(random_vit(img_size=8, patch_size=2, in_channels=1, num_classes=10))._repr_html_())
    assert page.locator(".vit-choice span").all_inner_texts() == ["mean", "0", "1", "2"]
    assert page.get_by_role("radio", name="head 0").count() == 1
    page = show(PatchExplorer(random_images()[0], 4)._repr_html_())
    page.locator(STAGE).press("Control+End")
    assert page.locator(".vector").inner_text().startswith("Vector 15 (from 0 to 15): ")


def test_overlay(show):
    page = show(explorer()._repr_html_())
    slider = page.get_by_role("slider")
    slider.press("Home")
    assert page.locator(".stage canvas").evaluate("e => getComputedStyle(e).opacity") == "0"
    assert page.locator(".face .photo").evaluate("e => getComputedStyle(e).filter") == "grayscale(0)"
    slider.press("End")
    assert page.locator(".stage canvas").evaluate("e => getComputedStyle(e).opacity") == "1"


# ---- The picture beside its map, and the walk


def outlined(page, board: int) -> set[frozenset]:
    """The edges between two patches that are drawn as outlines, each as the pair of places (x, y) that it divides."""
    edges = set()
    for x, y, side in re.findall(r"M(\d+) (\d+)(h1|v1|m0 1h1|m1 0v1)", page.locator(".outlines").nth(board).locator("path").last.get_attribute("d")):
        x, y = int(x), int(y)
        other = {"h1": (x, y - 1), "v1": (x - 1, y), "m0 1h1": (x, y + 1), "m1 0v1": (x + 1, y)}[side]
        edges.add(frozenset([(x, y), other]))
    return edges


def test_the_picture_stands_beside_its_map(show):
    """The five strongest patches are outlined in both, adjacent ones together; a patch of the picture answers, too."""
    page = show(explorer()._repr_html_())
    boxes = [page.locator(".stage").nth(i).bounding_box() for i in range(2)]
    assert all(abs(boxes[0][side] - boxes[1][side]) < 1 for side in ("y", "width", "height"))
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    for query in (0, 1 + 6):
        seen = ask(page)["weights"][1:]
        top = {(i % 4, i // 4) for i in sorted(range(16), key=lambda i: (-seen[i], i))[:5]}
        near = lambda x, y: [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]  # noqa: E731
        truth = {frozenset([place, other]) for place in top for other in near(*place) if other not in top}
        assert outlined(page, 0) == outlined(page, 1) == truth
        if query == 0:
            page.mouse.click(boxes[0]["x"] + 2.5 * boxes[0]["width"] / 4, boxes[0]["y"] + 1.5 * boxes[0]["height"] / 4)
            assert ask(page)["state"]["query"] == 1 + 6
            assert page.locator(".readout").inner_text().startswith("Row 1, column 2: ")


def test_another_picture_keeps_block_head_and_patch(show):
    page = show(explorer(own_picture="embed")._repr_html_())
    page.mouse.click(*patch_centre(page, 3, 1))
    page.get_by_role("radio", name="block 1, head 2").check()
    kept = ask(page)["state"] | {"picture": None}
    for name in "picture 2", "picture 1":
        page.get_by_role("radio", name=name).check()
        assert ask(page)["state"] | {"picture": None} == kept
    choose(page, as_file(random_images(4)[3]))
    assert ask(page)["state"] | {"picture": None} == kept and ask(page)["state"]["picture"] == 3


WALKED = [dict(), dict(pool="mean", n_registers=1), dict(in_channels=1, n_heads=1), dict(num_classes=0)]


def input_of(image: torch.Tensor) -> torch.Tensor:
    return ((image.float() / 255 - ANY_MEAN[: len(image), None, None]) / ANY_STD[: len(image), None, None])[None]


@pytest.mark.parametrize("arguments", WALKED, ids=lambda arguments: ",".join(arguments) or "plain")
def test_walk(show, arguments):
    """By keyboard from the pixels of a patch to the answer; each step's numbers are PyTorch's."""
    model = random_vit(**arguments)
    n = 5 if model.config["num_classes"] else 3
    page = show(explorer(model, labels=[0, 1, 2] if n == 5 else None, class_names=NAMES if n == 5 else None)._repr_html_())
    image = random_images(3, (16, 16), model.config["in_channels"])[0]
    maps, _ = expected(model, image)
    means, prefix = maps.mean(axis=1), model.n_prefix
    average = means[-1, 0, prefix:] if model.pool == "cls" else means[-1, prefix:, prefix:].mean(axis=0)
    followed = average.argmax()  # a reader who has chosen none follows the patch that the answer's tokens look at most
    before, words, focused = ask(page)["state"], page.locator(".words"), lambda: page.evaluate("document.activeElement.innerText")
    assert page.locator(".walk").is_hidden()
    page.get_by_role("button", name="Follow one patch").press("Enter")

    def at(step: int) -> None:
        assert page.locator(".counter").inner_text() == f"{step} of {n}"
        assert page.locator("[aria-live]").inner_text().startswith(f"Step {step} of {n}: {page.locator('.walk .heading').inner_text()}. ")
        assert page.locator(".controls").is_hidden() and page.locator(".atlas").is_hidden()

    at(1)
    assert focused() == "Next" and page.get_by_role("button", name="Back").is_disabled()
    page.locator(".zoom rect").first.wait_for()
    pixels = patchify(image[None], 4)[0, followed].reshape(-1, 4, 4)
    assert page.locator(".zoom text").all_text_contents() == [str(v) for v in pixels.permute(1, 2, 0).flatten().tolist()]
    assert outlined(page, 0) == set() and f"row {followed // 4}, column {followed % 4}" in words.inner_text()
    assert f"{pixels.numel()} numbers" in words.inner_text()

    page.keyboard.press("Enter")
    at(2)
    assert focused() == "Next" and page.locator(".zoom").is_hidden() and "a vector of 24" in words.inner_text()
    row = means[0, prefix + followed, prefix:]
    np.testing.assert_allclose(drawn(page, STAGE + " canvas"), row / row.max(), atol=1.5 / 255)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # back
    at(1)
    assert focused() == "Next"  # since there is no further way back
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")

    at(3)
    rows = means[:, prefix + followed, prefix:]
    for block, row in enumerate(rows):
        np.testing.assert_allclose(drawn(page, f".strip label:nth-of-type({block + 1}) canvas"), row / row.max(), atol=1.5 / 255)
    sharpest = rows.max(axis=1).argmax()
    assert ask(page)["state"]["block"] == sharpest and f"most decided in block {sharpest}: " in words.inner_text()
    page.locator(".strip").get_by_role("radio", name="block 1").press("Space")
    assert ask(page)["state"]["block"] == 1
    page.get_by_role("button", name="Next" if n == 5 else "Done").focus()
    if n == 5:
        page.keyboard.press("ArrowRight")
        at(4)
        early = early_logits(model, input_of(image))[:, 0]
        np.testing.assert_allclose(ask(page)["early"], early, atol=1e-4)
        p, best = early.softmax(dim=-1).max(dim=-1)
        texts = [f"{'after block %d' % (i - 1) if i else 'before block 0'}: {NAMES[k]}" for i, k in enumerate(best)]
        assert page.locator(".besides li > span").all_inner_texts() == texts
        shares = [float(text.split()[0]) for text in page.locator(".besides li > b").all_inner_texts()]
        np.testing.assert_allclose(shares, 100 * p, atol=0.6)
        page.keyboard.press("ArrowRight")
        at(5)
        np.testing.assert_allclose(drawn(page, STAGE + " canvas"), average / average.max(), atol=1.5 / 255)
        assert page.locator(".besides li > span").first.inner_text().split()[0] == NAMES[best[-1]]
        assert f"The answer: {NAMES[best[-1]]}, " in words.inner_text()
        page.keyboard.press("ArrowRight")  # no step further: an arrow does not leave
        at(5)
    assert focused() == "Done"
    page.keyboard.press("Enter")
    assert page.locator(".walk").is_hidden() and focused().startswith("Follow one patch")
    assert ask(page)["state"] == before


def test_walk_with_a_patch_of_ones_own(show):
    """The patch that looks is followed; another, by press or arrow key, on any step; another picture; Escape leaves."""
    page = show(explorer(random_vit(pool="mean"))._repr_html_())
    words = page.locator(".words")
    page.mouse.click(*patch_centre(page, 1, 2))
    page.get_by_role("radio", name="block 0, head 1").check()
    page.get_by_role("button", name="Follow one patch").click()
    assert "in row 1, column 2" in words.inner_text()
    page.locator(".stage").first.click(position={"x": 5, "y": 5})
    assert "in row 0, column 0" in words.inner_text()
    page.get_by_role("button", name="Next").click()
    page.locator(STAGE).press("ArrowDown")
    assert page.locator(".title").inner_text() == "Where the patch in row 1, column 0 looks: block 0, mean of the heads"
    page.get_by_role("radio", name="picture 2").check()
    assert ask(page)["state"] | {"picture": 2, "query": 4, "block": 0, "head": "mean"} == ask(page)["state"]
    assert page.locator(".counter").inner_text() == "2 of 5"
    for _ in range(3):
        page.get_by_role("button", name="Next").click()
    page.locator(STAGE).press("Control+End")  # on the last step all patches look; the frame moves
    assert ask(page)["state"]["query"] == "all" and page.locator(".counter").inner_text() == "5 of 5"
    page.locator(STAGE).press("Escape")
    assert page.locator(".walk").is_hidden()
    assert ask(page)["state"] | {"picture": 2, "query": 6, "block": 0, "head": 1} == ask(page)["state"]
    page.get_by_role("button", name="Follow one patch").click()
    page.get_by_role("button", name="Leave").click()
    assert page.locator(".walk").is_hidden()


def test_walk_through_the_reader_s_own_picture(show):
    """The page runs the model: its answers after every block are those of early_logits."""
    for arguments in dict(), dict(pool="mean", fc_norm=True), dict(n_registers=2):
        model = random_vit(**arguments)
        page = show(explorer(model, own_picture="embed")._repr_html_())
        image = random_images(5)[4]
        choose(page, as_file(image))
        early = early_logits(model, input_of(image))[:, 0]
        assert early.std(dim=0).min() > 0.01  # blocks differ
        np.testing.assert_allclose(ask(page)["early"], early, atol=1e-4)
        page.get_by_role("button", name="Follow one patch").click()
        page.locator(".zoom rect").first.wait_for()
        assert page.locator(".zoom text").count() == 48 and "its patch" in page.locator(".title").inner_text()


@pytest.mark.parametrize("width, height, scheme", [(390, 844, "dark"), (1280, 800, "light")])
def test_the_walk_fits_a_window(show, width, height, scheme):
    """Each step is seen whole on a phone and on a desk, its button stays in its place, rings are whole, axe is content."""
    page = show('<main style="overflow: hidden"><h1>Walk</h1>', explorer(tiny_vit(), labels=[0, 1, 2])._repr_html_(), '<p style="height: 1000px"></p></main>',
                width=width, color_scheme=scheme)  # fmt: skip
    start = page.get_by_role("button", name="Follow one patch")
    start.evaluate("button => button.scrollIntoView()")  # the picture is above the window
    start.click()
    box = page.locator(".attention-explorer").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    places = []
    for step in range(1, 6):
        assert page.locator(".counter").inner_text() == f"{step} of 5"
        box = page.locator(".attention-explorer").bounding_box()
        assert box["height"] <= height and page.evaluate("document.documentElement.scrollWidth") <= width
        button = page.locator(".walk button").nth(1)
        places.append(button.bounding_box()["y"] - box["y"])
        found = violations(page)
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []
        if step == 3:
            page.locator(".strip input").first.focus()
            page.keyboard.press("ArrowRight")
            assert page.evaluate(RING)[1] == "whole"
        button.focus()
        page.keyboard.press("Shift+Tab" if step > 1 else "Tab")
        assert page.evaluate(RING)[1] == "whole"
        button.press("Enter")
    assert max(places) - min(places) < 1


# ---- The page


def every_explorer() -> list[str]:
    first, second = random_vit(), random_vit(pool="mean")
    pictures = [explorer(first, labels=[0, 1, 2]), explorer(second, labels=[0, 1, 2], own_picture="embed")]
    pictures += [PatchExplorer(random_images()[0]), PositionExplorer({"first": first, "second": second})]
    return [picture._repr_html_() for picture in pictures]


@pytest.mark.parametrize(
    "base, scheme, width",
    [("file", "light", 360), ("file", "dark", 360), ("file", "light", 1280), ("file", "dark", 1280),
     ("http", "light", 1280), ("http", "dark", 360)],
)  # fmt: skip
def test_page(show, base, scheme, width):
    """All on one page, which leave each other alone; no sideways scrolling; axe-core finds nothing at all."""
    page = show("<main><h1>All</h1>", *every_explorer(), "</main>", base=base, width=width, color_scheme=scheme)
    assert page.locator(".vit-widget[data-live]").count() == 4
    assert page.locator(".attention-explorer[data-live]").count() == 2
    assert page.locator("[id]").count() == 0
    assert page.evaluate("typeof SCALE + typeof element") == "undefinedundefined"
    assert page.locator(".vit-first-frame:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    before = ask(page, 1)
    page.mouse.click(*patch_centre(page, 0, 0))
    page.get_by_role("radio", name="head 0", exact=True).first.check()
    assert ask(page, 0)["state"]["head"] == 0
    assert ask(page, 1) == before
    page.get_by_role("radio", name="each tile on a scale of its own").nth(1).check()
    choose(page, as_file(random_images(1)[0]))
    if base == "http":
        return  # the same page
    found = violations(page)
    assert [(v["id"], v["help"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_first_frame_without_javascript(show):
    page = show(*every_explorer(), java_script_enabled=False)
    frames = page.locator(".vit-first-frame:visible")
    assert frames.evaluate_all("all => all.map((image) => [image.alt, image.naturalWidth > 0])") == [
        ["A picture in 4 by 4 patches, and where the class token looks in the last block", True],
        ["A picture in 4 by 4 patches, and where the patches look on average in the last block", True],
        ["An image of 16 by 16 pixels, cut into 8 by 8 patches", True],
        ["How similar the position in row 2, column 2 is to 4 by 4 positions", True],
    ]


def test_motion(show):
    """Patches move to their new places, unless the reader's system asks for less motion."""
    for reduced, seconds in ("no-preference", "0.6s, 0.6s"), ("reduce", "0s"):
        page = show(PatchExplorer(random_images()[0])._repr_html_(), reduced_motion=reduced)
        assert page.locator(".tiles i").first.evaluate("e => getComputedStyle(e).transitionDuration") == seconds


def test_size_and_time(show):
    """At most 400 kB with three pictures; from an input to the next frame, measured and printed."""
    html = explorer(tiny_vit(), own_picture=True)._repr_html_()
    assert len(html.encode()) <= 400_000
    page = show(html)
    times = page.locator(".attention-explorer").evaluate(
        """async root => {
          const stage = root.querySelector(".stage[tabindex]"), times = [];
          for (let i = 0; i < 40; i++) {
            await new Promise((next) => setTimeout(next, 7 + i % 5));
            const start = performance.now();
            stage.dispatchEvent(new KeyboardEvent("keydown", {key: i % 2 ? "ArrowLeft" : "ArrowUp"}));
            if (i % 8 === 0) stage.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
            const own = performance.now() - start;
            await new Promise((next) => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = next; c.port2.postMessage(0); }));
            times.push([own, performance.now() - start]);
          }
          return times;
        }"""
    )
    own, painted = (statistics.median(column) for column in zip(*times))
    print(f"\n{len(html) / 1000:.0f} kB; {own:.1f} ms of work, {painted:.1f} ms to the frame's paint (medians)")
    assert len(times) == 40


def test_same_bytes_on_each_run():
    assert every_explorer() == every_explorer()
    assert "0x" not in repr(explorer())


def test_explorers_in_the_book():
    """Every stored explorer weighs at most 400 kB, and the weights that it loads on request are among the assets."""
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
        for html in (output.get("data", {}).get("text/html", "") for output in outputs):
            if 'class="vit-widget attention-explorer"' in html:
                assert len(html.encode()) <= 400_000, path.name
                file = re.search(r'"file":"(vit-[0-9a-f]+\.js)"', html)
                assert file is None or (ROOT / "book" / "assets" / file[1]).exists(), f"{path.name} loads {file[1]}"


# ---- The reader's own picture


def as_file(image: torch.Tensor, **options) -> dict:
    content = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "png", **options)
    return {"name": "mine.png", "mimeType": "image/png", "buffer": content.getvalue()}


def choose(page, file: dict) -> None:
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("Your picture: its middle").wait_for()


@pytest.mark.parametrize("base, arguments", [("file", dict()), ("http", dict(pool="mean", n_registers=1))])
def test_own_picture(show, tmp_path, base, arguments):
    """The weights come from a file beside the page, once they are needed; the numbers are PyTorch's."""
    model = random_vit(**arguments)
    picture = explorer(model, own_picture=True)
    written = picture.write_weights(tmp_path / "_static")
    assert written.name == picture.weights_name
    page = show(picture._repr_html_(), base=base, page_attributes=' data-content_root="./"')
    assert "MB" in page.locator(".file").inner_text()
    assert page.evaluate("document.scripts.length") == 2  # its data and its code: the model is not loaded yet
    for image in random_images(5)[3:]:
        choose(page, as_file(image))
        maps, logits = expected(model, image)
        answer = ask(page, head=0, block=0, query=0)
        np.testing.assert_allclose(answer["logits"], logits, atol=1e-3)
        np.testing.assert_allclose(answer["weights"], maps[0, 0, 0], atol=1e-4)
    assert page.get_by_role("radio", name="your picture").is_checked()
    assert page.locator(".thumbs input").count() == 4
    page.get_by_role("radio", name="picture 0").check()
    np.testing.assert_allclose(ask(page)["logits"], expected(model, random_images()[0])[1], atol=1e-4)


@pytest.mark.parametrize("n", [4, 30])
def test_own_picture_gets_a_known_class(show, n):
    """Beside the answer to a picture of the reader's own, and to no other: which classes there are, or how many."""
    names = [f"kind {k}" for k in range(n)]
    page = show(explorer(random_vit(num_classes=n), own_picture="embed", class_names=names)._repr_html_())
    only = page.locator(".only")
    assert only.is_hidden()
    choose(page, as_file(random_images(1)[0]))
    which = " (kind 0, kind 1, kind 2, kind 3)" if n == 4 else ""
    assert only.inner_text() == f"The model knows only {n} classes{which}: a picture of anything else gets one of them all the same."
    page.get_by_role("radio", name="picture 0").check()
    assert only.is_hidden()


def test_own_picture_inside(show):
    """The weights in the page itself; the time of a forward pass of the size that readers meet is printed."""
    model = tiny_vit()
    page = show(explorer(model, own_picture="embed")._repr_html_())
    image = random_images(4, (32, 32))[3]
    choose(page, as_file(image))
    choose(page, as_file(image))
    np.testing.assert_allclose(ask(page)["logits"], expected(model, image)[1], atol=1e-3)
    print(f"\none forward pass in the page: {float(page.locator('.attention-explorer').get_attribute('data-forward')):.0f} ms")


def test_photographs_are_cropped_turned_and_shrunk(show):
    """A large photo, turned by EXIF, with transparent edges in another: its middle, averaged."""
    model = random_vit()
    page = show(explorer(model, own_picture="embed")._repr_html_())
    image = random_images(1)[0]
    middle = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((160, 160), Image.NEAREST)
    wide = Image.new("RGB", (300, 160), "red")
    wide.paste(middle, (70, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = io.BytesIO()
    wide.transpose(Image.ROTATE_90).save(turned, "png", exif=exif)
    clear = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
    white = torch.full((3, 16, 16), 255, dtype=torch.uint8)
    see_through = io.BytesIO()
    clear.save(see_through, "png")
    for content, truth in (turned, image), (see_through, white):
        choose(page, {"name": "photo", "mimeType": "image/png", "buffer": content.getvalue()})
        got, logits = ask(page)["logits"], expected(model, truth)[1]
        np.testing.assert_allclose(got, logits, atol=0.05 * logits.std())


def test_own_picture_is_dropped(show):
    page = show(explorer(own_picture="embed")._repr_html_())
    content = list(as_file(random_images(1)[0])["buffer"])
    data = page.evaluate_handle(
        """content => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(content)], "mine.png", {type: "image/png"}));
          return data;
        }""",
        content,
    )
    page.dispatch_event(".stage", "drop", {"dataTransfer": data})
    page.get_by_text("Your picture: its middle").wait_for()
    assert ask(page)["state"]["picture"] == 3


def test_own_picture_that_cannot_be(show):
    """No place for the file: no button. No file: said so. No picture: said so."""
    picture = explorer(own_picture=True)
    assert show(picture._repr_html_()).locator("input[type=file]").count() == 0
    assert show(explorer()._repr_html_(), page_attributes=' data-content_root="./"').locator(".file").count() == 0
    page = show(explorer(own_picture="embed")._repr_html_())
    page.locator("input[type=file]").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.get_by_text("cannot read that file").wait_for()
    assert ask(page)["state"]["picture"] == 0


def test_missing_weights_are_named(browser, tmp_path):
    context = browser.new_context()
    page = context.new_page()
    picture = explorer(own_picture=True)
    (tmp_path / "page.html").write_text(HEAD.format(' data-content_root="./"') + picture._repr_html_())
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("input[type=file]").set_input_files(as_file(random_images()[0]))
    page.get_by_text(f"{picture.weights_name} is missing").wait_for()
    context.close()


# ---- What is refused, and what is left alone


def test_the_model_is_left_as_it_was():
    model = random_vit(drop_rate=0.5, drop_path_rate=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert explorer(model).data == explorer(model.eval()).data
    explorer(model.train())
    assert model.training and not any(tensor.grad is not None for tensor in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(block.attn.qkv._forward_hooks for block in model.blocks)


def test_pil_images_are_the_same_pictures():
    images = random_images()
    as_pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    assert AttentionExplorer(random_vit(), as_pil).data == AttentionExplorer(random_vit(), images).data
    assert AttentionExplorer(random_vit(), images.numpy()).data == AttentionExplorer(random_vit(), images).data


def with_nan() -> VisionTransformer:
    model = random_vit()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    "model, images, arguments, message",
    [
        (random_vit, random_images(0), {}, "there is no picture"),
        (random_vit, [], {}, "there is no picture"),
        (random_vit, random_images(2, (16, 20)), {}, r"uint8 of the shape \(2, 3, 16, 20\).* uint8 of the shape \(n, 3, 16, 16\)"),
        (random_vit, random_images(2)[0], {}, r"of the shape \(3, 16, 16\)"),
        (random_vit, random_images(2) / 255, {}, "images are float32"),
        (random_vit, [Image.new("RGB", (20, 16))], {}, "picture 0 is 16 × 20; the model takes 16 × 16"),
        (random_vit, ["cat.png"], {}, "a list of PIL images"),
        (random_vit, random_images(2), dict(labels=[0]), r"labels \[0\] for 2 pictures"),
        (random_vit, random_images(2), dict(labels=[0, 4]), "4 classes"),
        (random_vit, random_images(2), dict(class_names=["a"]), "1 class names; the model has 4"),
        (random_vit, random_images(2), dict(mean=[0.5]), "mean has the shape"),
        (random_vit, random_images(2), dict(own_picture="here"), "own_picture is 'here'"),
        (with_nan, random_images(2), {}, r"not finite \(NaN or infinite\): blocks.1.mlp.fc1.weight"),
        (lambda: nn.Linear(3, 4), random_images(2), {}, "not this Linear: it has no patch_embed"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(model, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(model(), images, **arguments)


@pytest.mark.parametrize("arguments", [dict(num_classes=0), dict(num_classes=0, n_registers=4)], ids=["plain", "registers"])
def test_a_model_without_a_head_shows_maps_and_no_answer(show, arguments):
    """DINO, for one: the class token's maps, no list of classes; the reader's own picture too."""
    model = random_vit(**arguments)
    page = show(explorer(model, own_picture="embed")._repr_html_())
    maps, _ = expected(model, random_images()[0])
    row = maps[-1].mean(axis=0)[0, model.n_prefix :]
    np.testing.assert_allclose(drawn(page), row / row.max(), atol=1.5 / 255)
    assert ask(page)["logits"] == [] and page.locator(".answers").count() == 0
    assert "The answer" not in page.locator(".attention-explorer").inner_text()
    content = io.BytesIO()
    Image.fromarray(random_images()[1].permute(1, 2, 0).numpy()).save(content, "png")
    page.locator("input[type=file]").set_input_files({"name": "p.png", "mimeType": "image/png", "buffer": content.getvalue()})
    page.wait_for_function("document.querySelector('.attention-explorer').dataset.forward")
    own, _ = expected(model, random_images()[1])
    np.testing.assert_allclose(ask(page, block=2, head=1, query=0)["weights"], own[2, 1, 0], atol=5e-3)
    assert page.locator(".answers").count() == 0 and page.locator(".only").is_hidden()


def same_data(one: AttentionExplorer, other: AttentionExplorer) -> bool:
    return one.data == other.data and one.still == other.still


def test_models_as_people_have_them():
    """Compiled, averaged, data-parallel: the same picture. Half precision: nearly, and packed in the same bytes."""
    model = random_vit()
    plain = explorer(model, own_picture="embed")
    wrapped = torch.compile(model, backend="eager"), torch.optim.swa_utils.AveragedModel(model), nn.DataParallel(model)
    for other in wrapped:
        channels = dict(mean=ANY_MEAN, std=ANY_STD, own_picture="embed")
        assert same_data(AttentionExplorer(other, random_images(), **channels), plain)
        assert PositionExplorer(other).data == PositionExplorer(model).data
    for dtype in torch.float16, torch.bfloat16:
        half = explorer(random_vit().to(dtype), own_picture="embed")
        assert len(half.data["own"]["model"]["weights"]) == len(plain.data["own"]["model"]["weights"])
    assert explorer(random_vit().half(), own_picture="embed").data["own"] == plain.data["own"]


def test_another_head_says_how_many_classes_there_are():
    model = random_vit()
    model.head = nn.Linear(24, 2)
    assert explorer(model, labels=[0, 1, 1], class_names=["no", "yes"]).data["classes"] == ["no", "yes"]
    model.head = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 7))
    assert len(explorer(model).data["classes"]) == 7
    with pytest.raises(ValueError, match="not Sequential; show the maps alone, with own_picture=False"):
        explorer(model, own_picture=True)
    model = random_vit()
    model.blocks[1].mlp.act = nn.ReLU()
    with pytest.raises(ValueError, match="not ReLU"):
        explorer(model, own_picture=True)


def test_normalisation_and_names_are_those_of_the_model():
    model = random_vit()
    model.preparation = None
    with pytest.raises(ValueError, match="nothing says how this model's pictures were normalised"):
        AttentionExplorer(model, random_images())
    model.preparation = Preparation(ANY_MEAN, ANY_STD, NAMES)
    given = explorer(model, class_names=NAMES)
    assert same_data(AttentionExplorer(model, random_images(), own_picture=False), given)
    for names in {0: "a", "2": "c"}, {"0": "a", "2": "c"}:
        assert explorer(model, class_names=names).data["classes"] == ["a", "class 1", "c", "class 3"]
    for names, message in (({"cat": 0}, "turn them round"), ({7: "cat"}, "names? class 7|name class 7"), (["a"], "1 class names")):
        with pytest.raises(ValueError, match=message):
            explorer(model, class_names=names)


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_model_shows_its_maps():
    quantised = torch.ao.quantization.quantize_dynamic(random_vit(), {nn.Linear})
    assert len(explorer(quantised).data["pictures"]) == 3
    with pytest.raises(ValueError, match="own_picture=False"):
        explorer(quantised, own_picture=True)


def test_a_model_with_other_attention_is_refused():
    model = random_vit()
    model.blocks[1].attn = nn.Identity()
    with pytest.raises(ValueError, match="its blocks have no attention with n_heads"):
        AttentionExplorer(model, random_images())


def test_no_file_without_own_pictures(tmp_path):
    with pytest.raises(ValueError, match="make it with own_picture=True"):
        explorer(own_picture=False).write_weights(tmp_path)


# ---- Patches, and positions


def of_patches(page) -> tuple[list[int], np.ndarray]:
    """The order of the patches, and the chosen one's vector."""
    root = page.locator(".patch-explorer")
    return tuple([int(v) for v in root.get_attribute(f"data-{name}").split(",")] for name in ("order", "vector"))


@pytest.mark.parametrize("channels, size, sizes", [(3, (16, 24), [2, 4, 8]), (1, (8, 8), [1, 2, 4, 8])])
def test_patches_are_those_of_patchify(show, channels, size, sizes):
    image = random_images(1, size, channels)[0]
    page = show(PatchExplorer(image, patch_size=4)._repr_html_())
    assert PatchExplorer(image).data["sizes"] == sizes
    slider, facts = page.get_by_role("slider"), page.locator(".facts")
    for patch_size in (8, 4, 2):
        slider.fill(str(sizes.index(patch_size)))
        rows, columns = size[0] // patch_size, size[1] // patch_size
        patches = patchify(image[None], patch_size)[0]
        order, vector = of_patches(page)
        assert order == list(range(len(patches)))
        assert vector == patches[rows // 2 * columns + columns // 2].tolist()
        assert facts.inner_text().replace("\u00a0", " ").startswith(f"{rows} × {columns} patches: a sequence of {len(patches)} vectors")
        assert page.locator(".tiles i").count() == page.locator(".strip i").count() == len(patches)


def test_patches_are_shuffled_and_put_back(show):
    image = random_images(1)[0]
    page = show(PatchExplorer(image, 4)._repr_html_(), reduced_motion="reduce")
    patches = patchify(image[None], 4)[0]
    back = page.get_by_role("button", name="Put back")
    assert back.is_disabled()
    page.get_by_role("button", name="Shuffle").press("Enter")
    order, vector = of_patches(page)
    assert order != list(range(16)) and sorted(order) == list(range(16))
    assert vector == patches[order[10]].tolist()
    assert "Attention alone would not notice" in page.locator(".order").inner_text()
    page.mouse.click(*patch_centre(page, 0, 1))
    assert of_patches(page)[1] == patches[order[1]].tolist()
    page.keyboard.press("Tab")
    page.locator(STAGE).focus()
    page.keyboard.press("ArrowDown")
    assert of_patches(page)[1] == patches[order[5]].tolist()
    page.locator(".strip i").nth(3).click()
    assert of_patches(page)[1] == patches[order[3]].tolist()
    back.click()
    assert of_patches(page) == (list(range(16)), patches[order[3]].tolist())  # it stays with its patch
    assert back.is_disabled()


def test_similarity_of_positions(show):
    """The colours of the map and of the gallery are cosines of the model's own positions."""
    models = {"first": random_vit(), "second": random_vit(pool="mean", positions="sincos2d")}
    page = show(PositionExplorer(models)._repr_html_())
    unit = [nn.functional.normalize(m.pos_embed[0, -16:].detach(), dim=1) for m in models.values()]
    cosines = [(u @ u.T).numpy() for u in unit]
    np.testing.assert_allclose(2 * drawn(page) - 1, cosines[0][10], atol=0.01)
    page.locator(STAGE).focus()
    page.keyboard.press("ArrowUp")
    np.testing.assert_allclose(2 * drawn(page) - 1, cosines[0][6], atol=0.01)
    page.get_by_role("radio", name="second").check()
    np.testing.assert_allclose(2 * drawn(page) - 1, cosines[1][6], atol=0.01)
    box = page.locator(".gallery").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    assert page.locator(".position-explorer").get_attribute("data-at") == "3"
    np.testing.assert_allclose(2 * drawn(page) - 1, cosines[1][3], atol=0.01)
    page.mouse.move(*patch_centre(page, 3, 0))
    shown = page.locator(".readout").inner_text().replace("−", "-")
    assert shown.startswith("Row 3, column 0: ")
    assert abs(float(shown.split(": ")[1]) - cosines[1][3, 12]) < 0.011
    assert page.locator("[aria-live]").inner_text().startswith("Similarity with row 0, column 3, second. Most similar: row ")


def without_positions() -> VisionTransformer:
    return random_vit(positions="none")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PatchExplorer(random_images()[0].float()), "the image is float32"),
        (lambda: PatchExplorer(random_images()), r"shape \(3, 3, 16, 16\)"),
        (lambda: PatchExplorer(random_images(1, (300, 16))[0]), "at most 256 pixels"),
        (lambda: PatchExplorer(random_images(1, (31, 16))[0]), "no square patch gives 31 × 16 pixels at most 256 patches"),
        (lambda: PatchExplorer(random_images()[0], 5), r"patch_size 5 does not fit 16 × 16 pixels; choose one of \[1, 2"),
        (lambda: PositionExplorer({}), "there is no model"),
        (lambda: PositionExplorer(nn.Linear(2, 2)), r"model \(Linear\) has no position"),
        (lambda: PositionExplorer({"bare": without_positions()}), "bare .* has no position"),
        (lambda: PositionExplorer({"a": random_vit(), "b": random_vit(img_size=8)}), "grids differ"),
    ],
)
def test_bad_input_of_the_others_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
