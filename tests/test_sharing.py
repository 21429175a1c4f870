"""What a page says of itself where it is shared, and the button of a reader who is lost."""

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
import sharing
import yaml
from chapters import ROOT
from docutils.core import publish_doctree
from PIL import Image
from test_pages import CHAPTERS, PAGES


def head(site, name: str) -> dict[str, str]:
    html = (site.folder / name).read_text("utf-8")
    return {
        key: unescape(value) for key, value in re.findall(r'<meta (?:name|property)="([\w:]+)" content="([^"]*)"', html)
    }


def test_every_page_describes_itself(site):
    """A description of its own, of whole words, no longer than sites show; and the page's address."""
    heads = {name: head(site, name) for name in PAGES}
    descriptions = [said["description"] for said in heads.values()]
    assert len(set(descriptions)) == len(PAGES)
    assert [text for text in descriptions if not 40 < len(text) <= sharing.LENGTH or text[-1] not in ".!?…"] == []
    for name, said in heads.items():
        assert said["description"] == said["og:description"] and said["og:title"]
        assert said["og:url"].startswith("https://") and said["og:url"].endswith(f"/vit-edu/{name}")


def test_every_page_has_a_picture(site):
    """Of the size that sites ask for, small in bytes, and of the chapter's own figure where it has one."""
    drawn = {}
    for name in PAGES:
        address = head(site, name)["og:image"]
        file = site.folder / address.partition("/vit-edu/")[2]
        with Image.open(file) as picture:
            assert picture.size == sharing.SIZE and file.stat().st_size < 200_000
            drawn[name] = picture.convert("RGB").crop((640, 40, 1160, 550)).tobytes()
    assert len({drawn[name] for name in CHAPTERS}) > 12


def test_a_description_ends_where_a_sentence_does():
    paragraphs = (
        "Title\n=====\n\n*Cost: about an hour of reading, and some more.*\n\n"
        + "Seven words make a sentence of length. " * 9
    )
    text = sharing.description(publish_doctree(paragraphs))
    assert (
        text.startswith("Seven words")
        and text.endswith("length.")
        and sharing.LENGTH - 45 < len(text) <= sharing.LENGTH
    )


def test_lost_names_the_place(browser, site):
    """The page's button opens the form "I was lost here", with the section on the screen filled in."""
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "lost.yml").read_text("utf-8"))
    assert "place" in [field.get("id") for field in form["body"]]
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{site.http}/book/02_attention.html")
    button = page.locator("a.btn-source-issues-button")

    def asked() -> dict[str, list[str]]:
        address = urlsplit(button.evaluate("button => (button.dispatchEvent(new Event('pointerdown')), button.href)"))
        assert address.netloc == "github.com" and address.path.endswith("/vit-edu/issues/new")
        return parse_qs(address.query)

    chapter = page.evaluate("document.querySelector('article h1').innerText.replace('#', '').trim()")
    assert asked()["template"] == ["lost.yml"] and asked()["place"] == [chapter]
    page.evaluate("document.querySelector('#exercises').scrollIntoView({ behavior: 'instant' })")
    section = page.evaluate("document.querySelector('#exercises h2').innerText.replace('#', '').trim()")
    assert asked()["place"] == [f"{chapter} › {section}"] and asked()["title"] == [f"Lost in: {section}"]
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_lost_is_at_hand(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{site.http}/book/02_attention.html")
    page.locator(".dropdown-source-buttons > button:visible").first.click()
    assert "I was lost here" in page.locator("a.btn-source-issues-button:visible").inner_text()
    page.close()
