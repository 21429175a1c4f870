"""The interactive pictures in a real browser: the same numbers as PyTorch, by mouse, touch and keyboard."""

import json
import re
import tomllib
from importlib.resources import files

import nbformat
import numpy as np
import pytest
import torch
from chapters import ROOT
from quiet_pages import quiet_pages

from vit_edu import VisionTransformer
from vit_edu.inspection import early_logits
from vit_edu.widgets import DigitReader, SoftmaxTemperature, pack_model

ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
DRAWN = json.loads((ROOT / "tests" / "drawn_digits.json").read_text())  # points in percent of the pad


def random_vit(**arguments) -> VisionTransformer:
    """A ViT all of whose parameters are random and float16: no zero hides a mistake."""
    torch.manual_seed(0)
    model = VisionTransformer(**(dict(img_size=8, patch_size=2, in_channels=1, num_classes=10, embed_dim=32, depth=2,
                                      n_heads=4) | arguments)).eval()  # fmt: skip
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_((tensor + 0.2 * torch.randn_like(tensor)).half())
    return model


def attention_of(model: VisionTransformer, image: torch.Tensor) -> list[torch.Tensor]:
    x, maps = model.embed(image), []
    for block in model.blocks:
        x, weights = block(x, return_attention=True)
        maps.append(weights[0])
    return maps


def stored_reader() -> str:
    """The introduction's DigitReader, with its trained model, as the page shows it."""
    notebook = nbformat.read(ROOT / "book" / "intro.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return next(o.data["text/html"] for o in outputs if "digit-reader" in o.get("data", {}).get("text/html", ""))


@pytest.fixture
def show(windows, tmp_path):
    with quiet_pages(windows, tmp_path) as open_page:
        yield open_page


def draw(page, strokes) -> str | None:
    """Draw strokes with the mouse on a cleared pad; what the model then reads."""
    clear = page.get_by_role("button", name="Clear")
    if clear.is_enabled():
        clear.click()
    box = page.locator(".pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x / 100 * box["width"], box["y"] + y / 100 * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
    return page.locator(".digit-reader").get_attribute("data-reading")


SHAPES = [
    dict(),
    dict(pool="mean"),
    dict(n_registers=3),
    dict(pool="mean", n_registers=2, qkv_bias=False),
    dict(positions="sincos2d", depth=1),
    dict(positions="none", n_heads=1),
    dict(pool="mean", fc_norm=True),
    dict(img_size=(6, 8), patch_size=(3, 2), in_channels=3, num_classes=7, mlp_ratio=2),
    dict(img_size=32, patch_size=4, in_channels=3, embed_dim=96, depth=6, n_heads=3),
]


@pytest.mark.parametrize("arguments", SHAPES, ids=lambda arguments: ",".join(arguments) or "plain")
def test_forward_equals_pytorch(show, arguments):
    model = random_vit(**arguments)
    size = model.patch_embed.img_size
    image = torch.rand(1, model.patch_embed.proj.in_channels, *size)
    code = files("vit_edu.widgets").joinpath("vit.js").read_text("utf-8")
    result = show("<p>").evaluate(
        """([code, {config, names, weights}, image]) => {
          const {decodeWeights, vitForward} = new Function(code + "; return {decodeWeights, vitForward};")();
          const {logits, early, attention} = vitForward(config, decodeWeights(names, weights), Float32Array.from(image));
          return {logits: [...logits], early: early.map((each) => [...each]), attention: attention.map((block) => block.map((map) => [...map]))};
        }""",
        [code, pack_model(model, size), image.flatten().tolist()],
    )
    with torch.no_grad():
        expected, maps = model(image)[0], attention_of(model, image)
    assert expected.std() > 0.1
    torch.testing.assert_close(torch.tensor(result["logits"]), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.tensor(result["early"]), early_logits(model, image)[:, 0], atol=1e-4, rtol=0)
    got = torch.tensor(result["attention"]).reshape(len(maps), *maps[0].shape)
    torch.testing.assert_close(got, torch.stack(maps), atol=1e-5, rtol=0)


def test_every_half_precision_number_is_decoded(show):
    code = files("vit_edu.widgets").joinpath("vit.js").read_text("utf-8")
    got = show("<p>").evaluate(
        "code => { const f = new Function(code + '; return halfToNumber;')();"
        " return Array.from({length: 65536}, (_, i) => String(f(i))); }",
        code,
    )
    expected = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    np.testing.assert_array_equal(np.array(got, dtype=np.float64), expected)


def test_the_reader_in_the_page_equals_pytorch(show):
    model = random_vit()
    page = show(DigitReader(model)._repr_html_())
    images = torch.rand(5, 1, 8, 8)
    for image in images:
        logits = page.locator(".digit-reader").evaluate(
            """(root, image) => {
              const event = new CustomEvent("vit-forward", {detail: {image}});
              root.dispatchEvent(event);
              return [...event.detail.answer.logits];
            }""",
            image.flatten().tolist(),
        )
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(logits), model(image[None])[0], atol=1e-4, rtol=0)


def test_drawn_digits_are_read(show):
    """The model of the introduction reads at least nine of ten digits drawn with the mouse, large or small."""
    html = stored_reader()
    assert len(html) < 450_000
    page = show(html)
    wrong = [d["digit"] for d in DRAWN if draw(page, d["strokes"]) != str(d["digit"])]
    small = [[[[8 + 0.3 * x, 60 + 0.3 * y] for x, y in s] for s in d["strokes"]] for d in DRAWN[::3]]
    wrong += [d["digit"] for d, strokes in zip(DRAWN[::3], small) if draw(page, strokes) != str(d["digit"])]
    assert len(wrong) <= 0.1 * (len(DRAWN) + len(small)), f"misread: {wrong}"
    milliseconds = float(re.search(r"([\d.]+) ms \(median\)", page.locator(".timing").inner_text())[1])
    assert 0 < milliseconds < 100


def test_keyboard(show):
    page = show(stored_reader())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "pad"
    page.keyboard.press("Delete")
    assert page.locator(".verdict strong").inner_text() == "–"
    page.keyboard.press("Space")
    for _ in range(24):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert page.locator(".digit-reader").get_attribute("data-reading") == "1"
    assert page.locator("[aria-live]").inner_text().startswith("Reads 1, ")
    page.keyboard.press("ArrowRight")  # the pen is up: nothing is drawn
    assert page.locator(".pad path").count() == 1
    page.keyboard.press("Backspace")
    assert page.locator(".pad path").count() == 0
    assert page.locator("[aria-live]").inner_text() == "Empty."
    # The other controls: everything has a name, and is reached by Tab; heads are chosen by arrow keys.
    page.get_by_role("button", name="Try an example").press("Enter")
    assert "was not trained on" in page.locator(".note").inner_text()
    page.get_by_role("radio", name="mean of all heads").focus()
    before = page.locator(".views figure:nth-child(3) svg").get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name=re.compile("^head ")).first.is_checked()
    assert page.locator(".views figure:nth-child(3) svg").get_attribute("aria-label") != before


def test_touch(show):
    page = show(stored_reader(), width=390, has_touch=True, is_mobile=True)
    box = page.locator(".pad").bounding_box()
    client = page.context.new_cdp_session(page)
    at = lambda x, y: [{"x": box["x"] + x / 100 * box["width"], "y": box["y"] + y / 100 * box["height"]}]  # noqa: E731
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(25, 15)})
    for i in range(1, 11):
        client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(25 + 5 * i, 15)})
    for i in range(1, 16):
        client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(75 - 2 * i, 15 + 5 * i)})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("scrollY") == 0  # the finger draws, the page stays
    assert page.locator(".digit-reader").get_attribute("data-reading") == "7"


def test_softmax_with_and_without_the_division(show):
    page = show(SoftmaxTemperature()._repr_html_())
    slider, verdict = page.get_by_role("slider").first, page.locator(".verdict")
    gradient = lambda: float(re.search(r"largest gradient ([\d.]+)", verdict.inner_text())[1])  # noqa: E731
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "1024"
    undivided = gradient()
    page.get_by_role("radio", name="the square root of d").check()
    assert gradient() > 0.1 > 10 * undivided
    assert page.get_by_role("slider").nth(1).is_disabled()
    page.get_by_role("radio", name="a divisor of your own").check()
    page.get_by_role("slider").nth(1).press("End")
    cold = verdict.inner_text()
    page.get_by_role("slider").nth(1).press("Home")
    assert "Largest weight 100 %" in verdict.inner_text() != cold
    page.get_by_role("button", name="Other random vectors").click()


def test_softmax_weights_are_right():
    """The scores in the page are dot products: their spread grows as the square root of d."""
    scores = np.array(SoftmaxTemperature().data["scores"])  # (draws, widths, keys)
    spread = scores.std(axis=(0, 2)) / np.sqrt(SoftmaxTemperature.widths)
    np.testing.assert_allclose(spread, 1, atol=0.15)


@pytest.mark.parametrize("width", [360, 900])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_on_a_page_in_any_theme(show, width, scheme):
    pictures = [picture._repr_html_() for picture in (DigitReader(random_vit()), SoftmaxTemperature())]
    page = show(*pictures, *pictures, width=width, color_scheme=scheme, reduced_motion="reduce")
    assert page.locator(".vit-widget[data-live]").count() == 4
    assert page.locator("[id]").count() == 0
    assert page.evaluate("typeof vitForward + typeof element + typeof VIRIDIS") == "undefined" * 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".vit-first-frame:visible").count() == 0
    assert page.locator(".digit-reader .bars i").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    ink = "rgb(238, 238, 238)" if scheme == "dark" else "rgb(0, 0, 0)"
    assert page.locator(".pad path").first.evaluate("e => getComputedStyle(e).stroke") == ink
    page.locator(".pad").first.click()  # the first picture alone is drawn upon
    assert page.locator(".note").all_inner_texts()[0] != page.locator(".note").all_inner_texts()[1]


def test_first_frame_without_javascript(show):
    page = show(stored_reader(), SoftmaxTemperature()._repr_html_(), java_script_enabled=False)
    assert page.locator(".vit-first-frame:visible").count() == 2
    for alt in page.locator(".vit-first-frame").evaluate_all("images => images.map((image) => image.alt)"):
        assert len(alt) > 30


def test_same_bytes_on_each_run():
    assert SoftmaxTemperature()._repr_html_() == SoftmaxTemperature()._repr_html_()
    html = DigitReader(random_vit(), (torch.zeros(2, 1, 8, 8), [0, 1]))._repr_html_()
    assert html == DigitReader(random_vit(), (torch.zeros(2, 1, 8, 8), [0, 1]))._repr_html_()
    assert "0x" not in repr(DigitReader(random_vit()))
    data = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in data and json.loads(data)["config"]["nHeads"] == 4


@pytest.mark.parametrize("arguments", [dict(in_channels=3), dict(num_classes=3), dict(img_size=12, patch_size=3)])
def test_other_models_are_refused(arguments):
    with pytest.raises(ValueError, match="DigitReader needs 1 channel, patches that divide 8, and 10 classes"):
        DigitReader(random_vit(**arguments))


@pytest.mark.parametrize("base", ["http", "file"])
def test_each_line_of_the_listing_leads_to_its_chapter(browser, site, base):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(f"{getattr(site, base)}/book/intro.html")
    listing = page.locator(".tag_linked-listing .cell_input pre").first
    source = listing.inner_text()
    assert len(source.strip().splitlines()) <= 60
    compile(source, "listing", "exec")
    lines = source.strip().splitlines()
    links = listing.locator("a.listing-line")
    first = next(i for i, line in enumerate(lines) if line.startswith("# 01 "))
    assert links.all_inner_texts() == [line for line in lines[first:] if line.strip()]
    headings = listing.locator('a.listing-line:not([tabindex="-1"])')
    expected = ["01_patches", "02_attention", "03_mlp", "04_block", "05_model"]
    assert headings.evaluate_all("a => a.map(x => x.pathname.split('/').pop())") == [f"{n}.html" for n in expected]
    assert all(text.startswith(f"# {name[:2]} ") for text, name in zip(headings.all_inner_texts(), expected))
    button = page.locator(".tag_linked-listing button.copybtn").first
    target = page.locator(button.get_attribute("data-clipboard-target"))
    assert target.inner_text().strip() == source.strip()
    listing.get_by_text("scores = q").click()
    assert page.url.endswith("/02_attention.html")
    page.go_back()
    headings.nth(3).press("Enter")
    assert page.url.endswith("/04_block.html")
    context.close()


@pytest.mark.parametrize("base", ["http", "file"])
def test_first_screen(browser, site, base):
    """On a phone: what one will be able to do, three doors, and the whole pad, before any code; the page has its mark."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{getattr(site, base)}/book/intro.html")
    doors = page.locator("ul.doors a")
    assert doors.evaluate_all("a => a.map((each) => each.href.split('/').slice(-2).join('/'))") == [
        "book/01_patches.html", "book/intro.ipynb", ADDRESS["Repository"].split("/", 3)[3]]  # fmt: skip
    assert doors.nth(1).get_attribute("href") == page.locator("a[href^='https://colab.']").first.get_attribute("href")
    boxes = [page.locator(name).first.bounding_box() for name in ("article h1", "ul.doors", ".pad")]
    assert all(box["y"] + box["height"] <= 844 for box in boxes) and boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
    assert page.evaluate("""() => {
      const pad = document.querySelector(".pad"), code = document.querySelector(".cell_input pre");
      return !!(pad.compareDocumentPosition(code) & Node.DOCUMENT_POSITION_FOLLOWING);
    }""")
    assert page.locator(".digit-reader").count() == 1
    client = page.context.new_cdp_session(page)  # a finger draws a 1
    x, y, size = boxes[2]["x"], boxes[2]["y"], boxes[2]["width"]
    for kind, at in ("touchStart", 0.2), *(("touchMove", 0.2 + 0.05 * i) for i in range(1, 13)), ("touchEnd", None):
        points = [{"x": x + size / 2, "y": y + at * size}] if at else []
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.locator(".digit-reader").get_attribute("data-reading") == "1" and page.evaluate("scrollY") == 0
    icon = page.locator("link[rel=icon]").get_attribute("href")
    assert page.locator(".navbar-brand img").first.get_attribute("src") == icon and icon.endswith("/mark.svg")
    assert (site.folder / "_static" / "mark.svg").exists()
    context.close()
