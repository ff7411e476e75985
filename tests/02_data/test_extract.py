"""extract: the story and nothing else."""

import bisect
import json
import pydoc
import random
import re
import time

import pytest

import html_pieces
from extract import extract_text
from html_tree import parse

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


def test_signatures_in_lines_are_the_same_entries():
    """Since Python 3.13 pydoc gives each argument of a long signature a line of its own."""
    html = pydoc.HTMLDoc()
    page = html.page("json", html.document(json, "json"))
    arguments = ["*", "object_hook=None", "parse_float=None", "strict=True"]
    texts = []
    for title, heading in (("(" + ", ".join(arguments) + ")",) * 2,
                           ("(<br>\n" + ",<br>\n".join("&nbsp;" * 4 + a for a in arguments)
                            + "<br>\n)", "(\n    " + ",\n    ".join(arguments) + "\n)")):
        call = r"(<a href=.#JSONDecoder.>JSONDecoder</a>)\((?:.|\n)*?\)(?=<br>\n&nbsp;<br>)"
        changed = re.sub(call, lambda m: m[1] + title, page)
        changed = re.sub(r"(<strong>load</strong></a>)\([^()]*\)",
                         lambda m: m[1] + heading, changed)
        assert changed != page, "the page that pydoc makes is another than this test knows"
        texts.append(extract_text(changed.encode()))
    assert "\n\nload(*, object_hook=None, parse_float=None, strict=True)\n    Deserialize" in texts[0]
    assert "\n\nclass JSONDecoder(builtins.object)\n    Simple JSON" in texts[0]
    assert texts[1] == texts[0], "a signature over several lines must give the same text"


def test_nothing_gives_nothing():
    assert extract_text(b"") == "" and extract_text(b"<html></html>") == ""


def test_layout_of_lists_tables_code_and_breaks():
    page = f"""<body><article>{STORY}<ul><li>one<li>two <b>bold</b></ul>
        <table><tr><th>year<th>sum<tr><td>2020<td>5</table>
        <pre>def f(x):\n    return x\n</pre><p>first line,<br>second   line.</p>{STORY}</article>"""
    text = extract_text(page.encode())
    assert "- one\n- two bold" in text and "year | sum\n2020 | 5" in text
    assert "def f(x):\n    return x" in text, "code keeps its indentation"
    assert "\n\nfirst line,\nsecond line.\n\n" in text


@pytest.mark.parametrize("code, want", [
    ("    <span>def</span> f():\n        pass", "    def f():\n        pass"),
    ("a\r\n\r\n\r\nb\rc", "a\n\n\nb\nc"), ("a | \n- \n | b |", "a | \n- \n | b |"),
    ("import os\n<div id=f><a class=viewcode-back href=x>[docs]</a>def f():\n    pass</div>\n\n\n"
     "<div>x = 1</div>y", "import os\ndef f():\n    pass\n\n\n\nx = 1\ny"),
    ("<ol><li>a<li>  b</ol>", "a\n  b"), ("a<br>b<b>\n\n</b>c", "a\nb\n\nc")])
def test_code_stands_as_it_stands(code, want):
    text = extract_text(f"<main>{STORY * 2}<div class=highlight><pre>{code}</pre></div>{STORY}".encode())
    assert f"late.\n\n{want}\n\nThe mayor" in text


def test_a_cookie_notice_longer_than_the_story_is_left_out():
    notice = "<p>We use cookies, and so do our partners, to improve your experience here.</p>" * 9
    text = extract_text(f"<div class='x cookie-popup'>{notice}</div><main>{STORY}</main>".encode())
    assert "cookies" not in text and "The mayor" in text


def test_comments_and_related_stories_are_left_out():
    page = f"""<div class=content>{STORY * 3}<p><a href=x>Read more: the bridge is closed again</a></p>
        <h3>Related stories</h3><ul><li><a href=x>Bridge</a></ul></div>
        <div id=comments><p>First! I think that the bridge is ugly, and so is the mayor.</p></div>"""
    text = extract_text(page.encode())
    assert "ugly" not in text and "Related" not in text and "closed again" not in text
    assert text.count("The mayor") == 12


def test_other_stories_are_known_by_their_linked_headings():
    """No name says so, and they hold more prose than the story."""
    teaser = "<div><h4><a href=x>Roads closed</a></h4><p>Drivers were told to stay at home.</p></div>"
    page = f"<body><div><div>{STORY}{STORY}</div><div><h3>Picks</h3>{teaser * 12}</div></div>"
    assert extract_text(page.encode()).count("The mayor") == 8
    assert "Drivers" not in extract_text(page.encode())
    front = "<body><ul>" + teaser.replace("div", "li") * 12 + "</ul>"
    assert "Drivers" in extract_text(front.encode()), "a page of nothing else keeps them"
    blog = "".join(f"<div class=post><h2><a href={i}>Day {i}</a></h2>{STORY * 2}</div>"
                   for i in range(4))
    assert extract_text(f"<body>{blog}".encode()).count("The mayor") == 32, "a blog's own posts"


def test_chapters_of_one_text_stay_together():
    page = f"""<main><section class=part-1>{STORY}</section><section class=part-2>{STORY * 9}
        </section><section class=part-3 hidden="until-found">{STORY}</section></main>"""
    assert extract_text(page.encode()).count("The mayor") == 44, "the longest is not the whole"


@pytest.mark.parametrize("post, kind", [
    ("<div itemprop=text>{}</div>", "itemtype='https://schema.org/DiscussionForumPosting'"),
    ("<div class=answer><div itemprop='text'>{}</div></div>", "itemtype='http://schema.org/QAPage'"),
    ("<td><div id=post_message_7>{}</div>", "class=page"), ("<div class=bbWrapper>{}</div>", ""),
    ("<div id=pid_8>{}</div>", ""), ("<div data-role='commentContent'>{}</div>", "class=page"),
    ("<div class=postmsg>{}</div><div class='postsignature postmsg'>report</div>", ""),
    ("<table><tr><td>Joined: 2005<tr><td><span class=postbody>{}</span></table>", "phpBB 2"),
    ("<div class=postbody><h3>Re: it</h3><div class=content>{}</div></div>", "phpBB 3.0"),
    ("<div class=inner id=msg_8>{}</div><div id=msg_8_signature>report</div>", "SMF"),
    ("<div id=post_content8><h3>Re: it</h3><p>Post by bob</p><div class=content>{}</div></div>", "")])
def test_on_a_forum_the_replies_are_the_text(post, kind):
    posts = "".join(f"<div class='comment reply'><b>bob{i}</b><p>Joined: May 2009, 12 posts.</p>"
                    f"{post.format(STORY)}<p>Like, share, report this post.</p></div>"
                    for i in range(5))
    text = extract_text(f"<body><div {kind}>{posts}</div><footer>Powered by us".encode())
    assert text.count("The mayor") == 20, "a reply was taken for a comment"
    assert "Joined" not in text and "report" not in text and "Powered" not in text
    assert "Re: it" not in text and "Post by" not in text, "phpBB's heading of a post"


def test_comments_longer_than_the_story_are_no_forum():
    notes = "".join(f"<div class=commentContent>First! {STORY}</div>" for _ in range(9))
    page = f"<body><article>{STORY.replace('mayor', 'queen') * 2}</article><div id=comments>{notes}</div>"
    text = extract_text(page.encode())
    assert text.count("The queen") == 8 and "First!" not in text


def test_posts_that_are_items_of_a_list_are_no_points():
    posts = "".join(f"<li class=post><b>bob{i}</b><div id=post_message_{i}><blockquote>{STORY}"
                    "<ul><li>one point<li>another</ul></blockquote></div></li>" for i in range(5))
    text = extract_text(f"<body><ol id=posts>{posts}</ol>".encode())
    assert text.count("The mayor") == 20 and "- The mayor" not in text, \
        "Gopher drops pages whose lines are nearly all points"
    assert text.count("- one point") == 5, "points within a post stay"


def test_what_only_machines_read_is_left_out():
    page = f"""<main><h2>History<span class="mw-editsection"><span>[</span><a href=e>edit</a>]</span>
        </h2>{STORY}<h2 id=x>Use<a class="headerlink" href="#x">¶</a></h2>{STORY}
        <p>See <a href=y>it</a><span class="sr-only"> (opens in a new window)</span>.</p>"""
    text = extract_text(page.encode())
    assert "edit" not in text and "¶" not in text and "window" not in text
    assert "History" in text and "Use" in text and "See it." in text


def test_a_page_whose_blocks_have_misleading_names_keeps_its_text():
    page = f"<body><div class='sidebar'>{STORY}</div><div class='widget'>{STORY}</div>"
    assert extract_text(page.encode()).count("The mayor") == 8


def test_what_opens_on_a_click_is_text_where_there_is_no_other():
    fold = f"<h2>How?</h2><div class=collapse style='display:none' aria-hidden=true>{STORY}</div>"
    assert extract_text(f"<body><main>{fold * 4}</main>".encode()).count("The mayor") == 16
    frames = f"<frameset cols='9,*'><frame src=a><noframes><body>{STORY}</body></noframes></frameset>"
    assert extract_text(frames.encode()).count("The mayor") == 4, "what a page without frames shows"


def test_links_that_the_text_tells_of_stay():
    links = "<ul><li><a href=1>A long saw</a><li><a href=2>A hammer</a></ul>"
    page = f"<main>{STORY}<p>The tools that we need:</p>{links}{STORY}{links}{STORY}</main>"
    assert extract_text(page.encode()).count("A hammer") == 1, "only the list that is announced"
    page = page.replace("The tools that we need:", "Read more about this topic:")
    assert "A hammer" not in extract_text(page.encode())
    few = "<ul><li>Iron<li>Wood<li><a href=1>Stone, for which see the page on walls</a></ul>"
    assert "Iron" in extract_text(f"<main>{STORY}{few}{STORY}</main>".encode()), "one of three"
    icons = few.replace("Iron", "<a href=2><i></i></a>").replace("Wood", "")
    assert "walls" not in extract_text(f"<main>{STORY}{icons}{STORY}</main>".encode()), "icons"
    rows = "<tr><td><a href=1>Northtown Rovers</a><td>12"
    page = f"<main>{STORY}<table><tr><th>Team<th>Won{rows}</table><table>{rows}</table>{STORY}</main>"
    assert extract_text(page.encode()).count("Northtown") == 1, "only the table with heads"


def test_signatures_of_methods_are_no_signatures_of_people():
    page = f"<main>{STORY}<div class=member-signature>void open()</div>{STORY}<div class=" \
           f"post-signature>Life is short.</div>{STORY}</main>"
    text = extract_text(page.encode())
    assert "void open()" in text and "Life" not in text


def test_the_language_reference_keeps_its_paragraphs_and_loses_its_menus():
    page = pydoc._url_handler("topic?key=FLOAT")
    text = extract_text(page.encode())
    assert "Floating point literals\n***" in text or "Floating-point literals\n***" in text
    assert "Module Index" not in text and "   floatnumber " in text


# Harmless pages: what is repeated is whole, and any parser reads it.
UNITS = {
    "paragraphs": "<p>hello, </p>", "sections": "<div id=a><h2>Title</h2><p>One line, or two.</p></div>",
    "lists": "<ul><li>one</li><li>two</li></ul>", "cells": "<table><tr><td>x</td></tr></table>",
    "links": "<a href=x>link</a> ", "entities": "a &amp; b ", "breaks": "a<br>", "blanks": "x     ",
    "comments": "a<!-- note -->", "scripts": "a<script>x = 1</script>", "buttons": "<button>x</button>a",
    "pictures": '<img class="latex" alt="x">', "formulae": "a <math><mi>x</mi></math>, ",
    "twins": '<span class="katex-html">x</span> ', "code": "<pre>a = 1\n</pre>", "end tags": "a</i>",
    "attributes": '<p title="a > b" class="comment share x">a, b</p>', "headings": "<h3>a</h3>",
    "teasers": "<div class=related><h3><a href=x>Bridge</a></h3><p>It is open, they say.</p></div>",
}
PYDOC = {"sections": '<td class="section-title" colspan=3>&nbsp;<br>x</td>y',
         "entries": "<dl><dt>f(\n    a,\n)</dt><dd>It is f.</dd></dl>"}


@pytest.mark.parametrize("name, unit, prefix", [(name, unit, "") for name, unit in UNITS.items()] + [
    (name, unit, '<title>Python: x</title><i class="heading-text decor">') for name, unit in PYDOC.items()])
def test_time_grows_with_the_page_and_no_faster(name, unit, prefix):
    times = []
    for size in (50_000, 200_000):
        page = (prefix + unit * (size // len(unit))).encode()
        # The better of two: one collection of all that earlier tests left may cost half a second.
        runs = []
        for _ in range(2):
            start = time.process_time()
            extract_text(page)
            runs.append(time.process_time() - start)
        times.append(min(runs))
    assert times[1] < 1.5, f"{name}: {times[1]:.1f} s for 200 KB"
    assert times[1] < 10 * times[0] + 0.2, f"{name}: four times the page took {times} s"


class Counted(list):
    """A list that counts how often one of its items is looked at."""
    looks = 0

    def __getitem__(self, at):
        self.looks += 1 if isinstance(at, int) else len(range(*at.indices(len(self))))
        return super().__getitem__(at)


def test_what_never_ends_is_looked_for_once():
    """The functions that look ahead in the page: whatever it holds, each piece is read a few times."""
    pieces, never = Counted(["b>text"] * 5000), set()
    for at in range(0, 5000, 10):
        assert html_pieces.skip_element("canvas", pieces, at, never) == -1
    assert pieces.looks <= 5000, "an end tag that is missing was looked for again"
    pieces, misses = Counted(["p title='it"] + ["b>text" * 50] * 5000), []
    for _ in range(500):
        assert html_pieces.whole_tag(pieces, 0, misses)[2] == 1
    assert pieces.looks < 30 * 300 + 500 * 5, "a quote that never ends was looked for far every time"
    deep, _ = parse("<div>" * 1000 + "deep" + "</div>" * 1000 + "<p>after")
    assert deep.children[-1].tag == "p", "flattened blocks must not swallow what follows"


def test_never_raises_on_two_thousand_mutated_pages():
    rng = random.Random(4)
    html = pydoc.HTMLDoc()
    pages = [html.page("Python: this", html.document(bisect, "bisect")).encode(),
             pydoc._url_handler("topic?key=FLOAT").encode(),
             f"""<!doctype html><title>x</title><meta charset="utf-8"><body class='a b'>
             <nav><ul><li><a href=/>Home</a></ul></nav><main id=m>{STORY}<table><tr><td>1<td>2
             </table><pre> x\n  y</pre><math alttext="x"><mi>x</mi></math>
             <img class=latex alt="\\alpha"></main><script>if (a<b) "</p>"</script>""".encode()]
    pieces = [b"<", b">", b'"', b"'", b"</", b"<!--", b"&#", b"&", b"\0", b"\xff\xfe", b"<p>",
              b"<script>", b"<table>", b"</div>", b"<math>", b"$", b"\xe2\x82", b"<svg/>", b"<a/"]
    for number in range(2000):
        page = bytearray(pages[number % 3][:4000])
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(len(page) + 1)
            page[at:at + rng.randrange(20)] = rng.choice(pieces) * rng.randrange(3)
        text = extract_text(bytes(page))
        assert isinstance(text, str) and "\0" not in text
