"""unwanted and main_text: names lower a block's rank and never erase prose; pages of all kinds."""

import pytest

from extract import extract_text
from html_tree import Node, Run
from unwanted import evidence, made_from_heading

LINE = "The mayor opened the bridge on Monday, two years late, and went home to eat."
STORY = "".join(f"<p>Part {i}: {LINE}</p>" for i in range(4))
INSIDE = f"<p>Inside, {LINE}</p><p>Also here, {LINE}</p>"


def page(text):
    return f"""<header><nav><ul><li><a href=/>Home</a></ul></nav></header>{text}
        <footer><p>Copyright 2024, all rights reserved.</p></footer>""".encode()


@pytest.mark.parametrize("name", ["gdpr-Paragraph", "cookie-text", "share-text", "related-par", "promo"])
@pytest.mark.parametrize("block", ["<p class={}>{}</p>", "<div class={}><p>{}</p></div>"])
def test_a_name_that_all_of_the_text_goes_by_is_no_reason(name, block):
    text = extract_text(page("<main>" + "".join(block.format(name, f"{i}. {LINE}") for i in range(5))))
    assert text.count(LINE) == 5, f"blocks called {name} were each small, and all of the page"


@pytest.mark.parametrize("name", """cookies pagination comments widgets navigation tags legal rating
    related-work consent popups sponsors newsletter subscriptions social-history print copyright
    breadcrumbs menus login references carousel latest-changes promo-codes sidebar toc""".split())
@pytest.mark.parametrize("start, end", [
    ('<section id="{}"><h2>{}<a class="headerlink" href="#x">¶</a></h2>', "</section>"),
    ('<div id="{}" class="section level2"><h2>{}</h2>', "</div>"), ('<h2 id="{}">{}</h2>', "")])
def test_an_id_made_from_the_blocks_own_heading_says_nothing(name, start, end):
    title = name.replace("-", " ").capitalize()
    own = start.format(name, title) + INSIDE + end
    for text in (own + f"<section id=more><h2>More</h2>{STORY}</section>", STORY + own):
        got = extract_text(page(f"<main><article><h1>Guide</h1>{STORY}{text}</article></main>"))
        assert "Inside" in got and "Also here" in got, f"{own[:40]} by Sphinx, pandoc or Hugo"


def test_an_id_that_counts_comments_is_no_heading_of_a_chapter():
    notes = f"<div id=comments><h3>12 Comments</h3><p>First! {LINE}</p></div>"
    assert "First!" not in extract_text(page(f"<main>{STORY}{notes}</main>"))
    for own, name, heading in ((True, "related-work", "2.1 Related work"), (False, "share", "A bridge"),
                               (True, "datetime.date", "class date"), (False, "comments", "3 Comments"),
                               (False, "comments", "")):
        node = Node("section", "", None)
        node.children = [Node("h2", "", node)]
        node.children[0].children = [Run(heading, 0, node.children[0])] if heading else []
        assert made_from_heading(name, node) == own, (name, heading)


@pytest.mark.parametrize("attributes", [
    'title="The hidden figures of science"', 'data-title="Cookie consent"', 'data-src="/ads/menu.png"',
    'aria-label="Social history"', 'title="display: none"', 'data-hidden="true"', 'title="a hidden b"',
    'title="class=sidebar x"', 'data-x="id=newsletter"', 'title="x aria-hidden=true"'])
def test_other_attributes_say_nothing(attributes):
    got = extract_text(page(f"<main>{STORY}<section {attributes}><h2>Women</h2>{INSIDE}</section></main>"))
    assert "Inside" in got, f"{attributes} neither hides a block nor names it"


@pytest.mark.parametrize("name", ["category-comments", "tag-legal", "layout-sidebar-right", "no-sidebar",
                                  "post-9 type-post category-social tag-newsletter hentry",
                                  "has-sidebar", "comments-open", "code-toolbar", "dialog", "legal"])
def test_what_a_post_is_about_and_how_it_is_laid_out_says_nothing(name):
    got = extract_text(page(f"<main>{STORY}<div class='{name}'><h2>It</h2>{INSIDE}</div>{STORY}</main>"))
    assert "Inside" in got, f"class={name}"


@pytest.mark.parametrize("start, item, end", [
    ("<ul>", "<li>{}</li>", "</ul>"), ("<ol>", "<li>{}</li>", "</ol>"), ("<pre>", "{}\n", "</pre>"),
    ("<table>", "<tr><td>{}</td></tr>", "</table>"), ("<dl>", "<dt>Term</dt><dd>{}</dd>", "</dl>"),
    ("<blockquote>", "<p>{}</p>", "</blockquote>"), ("<div>", "<p>{}</p>", "</div>")])
def test_a_long_part_is_not_the_page(start, item, end):
    part = start + "".join(item.format(f"Item {i}: {LINE}") for i in range(14)) + end
    got = extract_text(page(f"<main><p>Before it, {LINE}</p>{part}<p>After it, {LINE}</p></main>"))
    assert "Before it" in got and "Item 13" in got and "After it" in got


def test_articles_are_teasers_only_beside_a_story():
    media = "<article class=media><div><img src=a.png></div>A boat</article>"
    got = extract_text(page(f"<div>{STORY}{media * 4}{STORY}</div><div><p>{LINE}</p></div>"))
    assert got.count("Part 3") == 2, "pictures in a story may be articles"
    parts = "<section>" + f"<article><h3>Why</h3>{STORY}</article>" * 3 + "</section>"
    assert extract_text(page(f"<main>{parts * 2}</main>")).count("Part 0") == 6


@pytest.mark.parametrize("name", ["comment-box", "comments", "disqus_thread", "reader-comments"])
def test_a_story_is_kept_before_its_many_comments(name):
    notes = "".join(f"<div class=item><b>ann</b><p>Note {i} is silly, and so is the whole town.</p></div>"
                    for i in range(60))
    got = extract_text(page(f"<article>{STORY}</article><div id={name}>{notes}</div>"))
    assert "Part 3" in got and "Note 7" not in got


@pytest.mark.parametrize("heading", ["References in C++", "Comments and docstrings", "Related languages",
                                     "Next-generation sequencing", "Tags and labels", "More on monads",
                                     "Newsletter design", "Read more than one file"])
def test_a_last_chapter_may_begin_like_the_end_of_a_story(heading):
    got = extract_text(page(f"<main>{STORY * 3}<h2>{heading}</h2><p>Inside, {LINE}</p></main>"))
    assert "Inside" in got, heading


def test_pages_whose_text_is_not_shown_at_first():
    app = "<div id=app><p>Loading, please wait.</p></div>"
    for hidden in (f"<noscript><div>{STORY}</div></noscript>", f"<template>{STORY}</template>",
                   f"<div hidden id='S:0'>{STORY}</div>",
                   f"<x-app><template shadowrootmode=open><main>{STORY}</main></template></x-app>"):
        assert "Part 3" in extract_text(f"<body>{app}{hidden}".encode()), hidden[:30]
    note = "<noscript><p>Please enable JavaScript, it is needed here.</p></noscript>"
    assert "JavaScript" not in extract_text(page(f"<main>{STORY}{note}</main>")), "beside a story"


def test_pages_of_links():
    cards = "".join(f"<div class=card><a href=/{i}><h3>Guide {i}</h3><p>Learn how to build it, step by "
                    f"step {i}.</p></a></div>" for i in range(12))
    assert "Guide 3" in extract_text(page(f"<main><div class=grid>{cards}</div></main>"))
    goods = "".join(f"<div><a href=/{i}><h3>Product {i}</h3></a><b>$ {i}.99</b></div>" for i in range(20))
    got = extract_text(page(f"<main><h1>Shop</h1><p>What we sell, for you.</p><div>{goods}</div></main>"))
    assert "Product 3" in got and "What we sell" in got
    index = "".join(f"<li><a href=/{i}>Chapter {i}: on</a></li>" for i in range(30))
    got = extract_text(page(f"<div class=toc><ul>{index}</ul></div><p>Free for all, says the office.</p>"))
    assert "Chapter 7" in got and "Copyright" not in got


@pytest.mark.parametrize("question, answer", [
    ("<div class=Item-Body><div class='Message userContent'>{}</div></div>",
     "<li class='Item ItemComment'><div class=Comment><div class='Message userContent'>{}</div></div>"),
    ("<div class=forum_op><b>joe</b><div class=content>{}</div></div>", "<div class=commentthread_comment>"
     "<b>ann</b><div class=commentthread_comment_text id=comment_content_1>{}</div></div>"),
    ("<div class=question><div class='s-prose js-post-body'>{}</div></div>",
     "<div class=answer><div class='s-prose js-post-body'>{}</div></div>"),
    ("<noscript><div class=topic-body><b>joe</b><div class=post itemprop=text>{}</div></div>",
     "<div itemtype='http://schema.org/DiscussionForumPosting'><div itemprop=text>{}</div></div>")])
def test_forums(question, answer):
    posts = question.format(f"<p>Question: {LINE}</p>") + "".join(
        answer.format(f"<p>Reply {i}: {LINE}</p><p>{LINE}</p>") for i in range(4))
    got = extract_text(page(posts))
    assert all(f"Reply {i}" in got for i in range(4)) and "Question" in got


def test_signatures_of_functions_whose_names_are_judged_words():
    entries = "".join(f'<dl class="py function"><dt class="sig" id="{n}"><b>{n}</b>(*objects)</dt>'
                      f"<dd><p>About {n}: {LINE}</p></dd></dl>" for n in ("print", "menu", "datetime.date"))
    got = extract_text(page(f"<main><section id=functions><h1>Functions</h1>{entries}</section></main>"))
    assert all(f"{n}(*objects)" in got and f"About {n}" in got for n in ("print", "menu"))


def test_a_display_formula_in_a_hidden_block():
    formula = ('<div style="display: none;"><math display="block"><semantics><mi>x</mi><annotation '
               'encoding="application/x-tex">x_1=2</annotation></semantics></math></div>')
    assert "$$x_1=2$$" in extract_text(page(f"<main>{STORY}<div>{formula}</div>{STORY}</main>"))


def test_evidence_has_a_kind_and_a_word():
    assert evidence(Node("div", 'class="cookie-bar"', None))[1] == "cookie"
    assert evidence(Node("aside", 'class="admonition note"', None)) is None, "a note is text"
    assert evidence(Node("h2", 'class="share" id=comments', None)) is None, "headings say what they say"
