"""What the book says and where it points: spelling, the form of outside links, citations that can be followed."""

import http.server
import re
import threading

import links
import pytest
import words


def test_spelling():
    """No word of the prose is unknown. A right new one goes into tools/words.txt; code stands in backticks."""
    assert words.unknown() == {}


@pytest.mark.parametrize("wrong", ["atention", "recieve", "Transfomer", "seperate", "dosovitskiy", "neighbous"])
def test_a_misspelling_is_noticed(wrong):
    assert not words.is_known(wrong)


@pytest.mark.parametrize(
    "right", ["attention", "Attention", "colour", "Neighbour’s", "Dosovitskiy", "ViT", "MLPs", "GELU"]
)
def test_a_right_word_is_let_through(right):
    assert words.is_known(right)


def test_what_is_read_and_what_is_not(tmp_path):
    """Prose in all its places; no code, formula, address, label or role."""
    text = tmp_path / "book" / "text" / "01_a.md"
    text.parent.mkdir(parents=True)
    text.write_text(
        "---\nkernelspec: xxa\n---\n(lbl-xxb)=\n# Title wordone\n\n```{code-cell}\nxxc = 1\n```\n"
        "A `xxd` and $xxe$, {cite}`xxf`, [wordtwo](https://xxg.example/xxh).\n\n"
        ":::{dropdown} Wordthree\n:class: xxi\nwordfour\n:::\n"
        "$$ xxj $$ (eq-xxk)\n",
        "utf-8",
    )
    read = [(number, word) for _, number, word in words.prose(tmp_path)]
    assert {word for _, word in read if word.lower().startswith("word")} >= {
        "wordone",
        "wordtwo",
        "Wordthree",
        "wordfour",
    }
    assert not [word for _, word in read if word.startswith("xx")]
    assert (5, "wordone") in read


def test_outside_links_have_their_form():
    assert len(links.links()) > 100
    assert links.malformed() == []


def test_every_citation_can_be_followed():
    """By DOI, arXiv number or address."""
    text = (links.ROOT / "book" / "references.bib").read_text("utf-8")
    entries = re.findall(r"^@\w+\{(\w+),", text, re.M)
    assert len(links.entries()) == len(entries) == text.count("\n@") + text.startswith("@") > 80
    assert links.untraceable() == []
    pages = " ".join(path.read_text("utf-8") for path in (links.ROOT / "book").rglob("*.md"))
    cited = {key.strip() for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", pages) for key in keys.split(",")}
    assert cited == set(entries)


def test_what_is_wrong_is_named(tmp_path):
    (tmp_path / "book" / "text").mkdir(parents=True)
    (tmp_path / "README.md").write_text(
        "[a](https://arxiv.org/pdf/2010.11929) [b](http://example.org/x), (https://example.org/y). https://nowhere/",
        "utf-8",
    )
    (tmp_path / "book" / "references.bib").write_text(
        "@misc{lost2020,\n  title = {A},\n}\n@misc{odd2021,\n  doi = {11.1/x},\n}\n", "utf-8"
    )
    problems = links.malformed(tmp_path) + links.untraceable(tmp_path)
    for words_of_it in (
        "is no address as arxiv.org",
        "should begin with https",
        "names no host",
        "lost2020 has no doi",
        "'11.1/x', is none",
    ):
        assert sum(words_of_it in problem for problem in problems) == 1, words_of_it
    assert "https://example.org/y" in links.links(tmp_path)


def test_who_answers_and_who_does_not(tmp_path):
    """A page that is gone is a broken link; a server that keeps programs out is none."""
    codes = {"/there": 200, "/gone": 404, "/shy": 403}

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(codes[self.path])
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        assert [links.answer(root + path) for path in codes] == ["", "answers 404", ""]
        server.shutdown()
    assert "refused" in links.answer(root + "/there", tries=1)
