"""extract: the story and nothing else."""

import pydoc
import json

from extract import extract_text

STORY = "<p>" + "The mayor opened the bridge on Monday, two years late. " * 4 + "</p>"


def test_menus_and_footers_are_left_out():
    page = (b"<html><body><nav><ul><li><a href=/>Home</a></ul></nav><div id=main>"
            + STORY.encode() * 3 + b"</div><footer>Copyright, all rights reserved.</footer>")
    text = extract_text(page)
    assert text.count("The mayor opened") == 12
    assert "Home" not in text and "Copyright" not in text


def test_a_pydoc_page_keeps_signatures_and_indentation():
    html = pydoc.HTMLDoc()
    text = extract_text(html.page("json", html.document(json, "json")).encode())
    assert "\n\nclass JSONDecoder(builtins.object)\n    Simple JSON <https://json.org> decoder" in text
    assert "\n\nload(fp, *, cls=None," in text
    assert "\xa0" not in text and "Package Contents" not in text
    assert '    >>> import json\n' in text


def test_nothing_gives_nothing():
    assert extract_text(b"") == "" and extract_text(b"<html></html>") == ""
