"""The calculator of what a training run costs, in a real browser: the numbers of a second calculation, by keyboard."""

import re

import pytest
from quiet_pages import quiet_pages

from vit_edu.widgets import TrainingCalculator
from vit_edu.widgets.training_calculator import FILE_BYTES, IMAGES

FLOPS = {"ViT-S/16": 27.6e9, "ViT-B/16": 105e9}
PEAKS = {"A100": 312, "H100": 989}


@pytest.fixture
def show(windows, tmp_path):
    with quiet_pages(windows, tmp_path) as open_page:
        yield open_page


def hours(flops, peak, gpus=8, epochs=90, utilisation=30, loader=8000) -> float:
    """The work in FLOPs over what the machine does, or the images over what the loader reads: the longer of the two."""
    work = epochs * 1_281_167 * flops
    return max(work / (gpus * peak * 1e12 * utilisation / 100), epochs * 1_281_167 / loader) / 3600


def shown_hours(page) -> float:
    return float(page.locator(".training-calculator").get_attribute("data-hours"))


def answers(page) -> dict[str, str]:
    return dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts()))


def test_the_numbers_are_those_of_a_second_calculation(show):
    page = show(TrainingCalculator(FLOPS, PEAKS, model="ViT-S/16")._repr_html_())
    assert shown_hours(page) == pytest.approx(hours(27.6e9, 312))
    assert "The loader decides" in page.locator(".verdict").inner_text()
    page.get_by_role("radio", name="ViT-B/16").check()
    assert shown_hours(page) == pytest.approx(hours(105e9, 312))
    assert "The GPUs decide" in page.locator(".verdict").inner_text()
    page.get_by_role("radio", name="H100").check()
    page.get_by_label("Epochs").fill("300")
    page.get_by_label("GPUs", exact=True).fill("64")
    page.get_by_label("Loader").fill("1000000")
    page.get_by_label("Price").fill("2.5")
    expected = hours(105e9, 989, 64, 300, loader=1e6)
    assert shown_hours(page) == pytest.approx(expected)
    said = answers(page)
    assert float(said["GPU-hours"].replace(",", "")) == pytest.approx(64 * expected, abs=0.51)
    assert float(said["price"].replace(",", "")) == pytest.approx(160 * expected, abs=0.51)
    rate = 300 * IMAGES / expected / 3600
    assert float(said["read from disk"].split()[0]) == pytest.approx(rate * FILE_BYTES / 1e9, abs=0.06)
    assert said["room on disk"] == "138 GB"


def test_by_keyboard(show):
    page = show(TrainingCalculator(FLOPS, PEAKS, loader=1e6)._repr_html_())
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.type"))
    assert order == ["radio", "radio", "number", "number", "range", "number", "number"]
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "100 percent"
    bound = shown_hours(page)
    page.keyboard.press("Home")
    assert shown_hours(page) == pytest.approx(100 * bound)
    page.get_by_role("radio", name="ViT-B/16").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_role("radio", name="ViT-S/16").is_checked()
    assert shown_hours(page) == pytest.approx(hours(27.6e9, 312, utilisation=1, loader=1e6))


@pytest.mark.parametrize("text", ["", "0", "-3"])
def test_what_is_no_number_is_said_and_mended(show, text):
    page = show(TrainingCalculator(FLOPS, PEAKS)._repr_html_())
    page.get_by_label("Epochs").fill(text)
    assert page.locator(".verdict").inner_text() == "Epochs: a number above 0, please."
    assert page.get_by_label("Epochs").get_attribute("aria-invalid") == "true" and page.locator("dd").count() == 0
    page.get_by_label("Epochs").fill("90")
    assert page.locator("dd").count() == 4 and "hours" in page.locator(".verdict").inner_text()


@pytest.mark.parametrize("width", [320, 390, 900])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_on_a_page_of_any_width_and_theme(show, width, scheme):
    html = TrainingCalculator(FLOPS, PEAKS)._repr_html_()
    page = show(html, html, width=width, color_scheme=scheme)
    assert page.locator(".vit-widget[data-live]").count() == 2 and page.locator("[id]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink = "rgb(238, 238, 238)" if scheme == "dark" else "rgb(0, 0, 0)"
    assert page.get_by_label("Epochs").first.evaluate("e => getComputedStyle(e).color") == ink
    page.get_by_label("Epochs").first.fill("10")    # the other one stays
    rows = page.locator(".verdict").all_inner_texts()
    assert rows[0] != rows[1]


def test_first_frame_without_javascript(show):
    page = show(TrainingCalculator(FLOPS, PEAKS)._repr_html_(), java_script_enabled=False)
    frame = page.locator(".vit-first-frame:visible")
    alt = frame.get_attribute("alt")
    said = float(re.search(r"([\d.]+) hours", alt)[1])
    assert said == pytest.approx(hours(105e9, 312), abs=0.06) and "ViT-B/16" in alt


@pytest.mark.parametrize(
    "arguments, message",
    [(dict(model="ViT-X"), "ViT-X.*none of ViT-S/16"), (dict(gpu="abacus"), "abacus.*A100, H100"), (dict(gpus=0), "gpus=0")],
)
def test_what_is_not_known_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingCalculator(FLOPS, PEAKS, **arguments)


def test_same_bytes_on_each_run():
    assert TrainingCalculator(FLOPS, PEAKS)._repr_html_() == TrainingCalculator(FLOPS, PEAKS)._repr_html_()
