"""Extraction by kind of page: how generators, sites and programs write what is the text, and what
is not. Each case was written down with its right value before it was tried."""

import pytest

from extract import extract_text
from html_tree import parse
from unwanted import COUNTED, is_hidden, attributes_of

LINE = "The mayor opened the bridge on Monday, two years late, and went home to eat with her family."
INSIDE = f"<p>Inside, {LINE}</p><p>Also here, {LINE}</p>"


def story(count, who="mayor"):
    return "".join(f"<p>Part {i} of it: {LINE.replace('mayor', who)}</p>" for i in range(count))


def read(text):
    """The main text of a page with a menu and a footer around `text`."""
    return extract_text(f"""<html><body><header><nav><ul><li><a href=/>Home</a></ul></nav></header>
        {text}<footer><p>Copyright 2024, all rights reserved.</p></footer></body></html>""".encode())


@pytest.mark.parametrize("block", [
    '<div class="sect1"><h2 id="_comments">Comments</h2><div class="sectionbody">{}</div></div>',
    '<div class="sect2" id="_related_work"><h3>Related work</h3>{}</div>',
    '<section id="cookies-1"><h2>Cookies</h2>{}</section>',
    '<section id="section-comments"><h2>Comments</h2>{}</section>',
    '<div id="outline-container-newsletter"><h2 id="newsletter">2 Newsletter</h2>'
    '<div id="text-newsletter">{}</div></div>',
    '<div class="section" id="comments" title="Comments"><div class="titlepage"><div><div>'
    '<h2 class="title"><a name="comments"></a>3. Comments</h2></div></div></div>{}</div>',
    '<div class="section-level-extent" id="Comments"><div class="nav-panel"><p>Next: <a href=x>Foo</a>,'
    ' Up: <a href=y>Bar</a></p></div><h3>3.1 Comments</h3>{}</div>',
    '<div id="sec:comments" class="section level2"><h2><span>2.1</span> Comments</h2>{}</div>',
    '<section id="whats-trending"><h2>What’s trending?</h2>{}</section>',
    '<section id="RelatedWork"><h2>Related Work</h2>{}</section>',
    '<section id="comment"><h2>Comments</h2>{}</section>',
    '<div id="consent"><p><strong>Consent</strong></p>{}</div>'])
def test_ids_that_documentation_generators_make(block):
    got = read(f"<main><h1>Guide</h1>{story(4)}{block.format(INSIDE)}{story(3, 'clerk')}</main>")
    assert "Inside" in got and "Also here" in got and "clerk" in got, f"a chapter went: {block[:50]}"


@pytest.mark.exercise("2.34")
@pytest.mark.parametrize("attributes, hides", [
    ('class="Hidden"', False), ('class="md:hidden"', False), ('class="overflow-hidden"', False), ('class="a hidden b"', True),
    ('class="hidden md:block"', False), ('class="hidden lg:table-cell"', False), ('hidden="until-found"', False),
    ('class="hidden md:mt-2"', True), ('hidden="false"', False), ('hidden="Until-Found"', False),
    ('aria-hidden="false"', False), ('aria-hidden="TRUE"', True), ('title="hidden"', False), ("", False),
    ('style="overflow: hidden"', False), ('style="text-decoration: none"', False), ('hidden', True),
    ('style="display: block" aria-hidden=true', True), ('style="visibility : hidden"', True),
    ('style="backface-visibility: hidden"', False), ('style="--at-start-display: none"', False),
    ('style="background: url(display:none.png)"', False), ('class="hidden-print"', False),
    ('style="color: red; visibility:hidden"', True), ('style="DISPLAY : NONE"', True),
    ('HIDDEN', True), ("aria-hidden='true'", True), ('style="display:none!important"', True)])
def test_what_hides_is_a_property_of_the_style_and_not_a_word_in_it(attributes, hides):
    got = is_hidden(attributes_of(attributes))
    assert got == hides, f"<div {attributes}> is {'hidden' if hides else 'shown'} in a browser, got {got}"


ITEMS = "".join(f"<p>Item number {i} is long enough to be prose: {LINE}</p>" for i in range(14))


@pytest.mark.parametrize("row", ["<div>{}</div>", "<div class=row><div class=col>{}</div></div>",
                                 "<section class='elementor-section'><div>{}</div></section>"])
@pytest.mark.parametrize("text", ["<main>{}</main>", "<div><article><h1>Head</h1>{}</article></div>",
                                  "<div role=main>{}</div>"])
def test_a_page_in_rows_is_all_of_them(row, text):
    rows = "".join(row.format(part) for part in (f"<p>Before it, {LINE}</p>", ITEMS,
                                                 f"<p>After it, {LINE}</p>"))
    got = read(text.format(rows))
    assert "Before it" in got and "number 13" in got and "After it" in got, "only the longest row"


def test_a_standfirst_and_an_address_beside_a_story_are_not_the_page():
    got = read(f"<article><div><p>{LINE}</p></div><div>{story(12)}</div>"
               "<div>https://paper.example/news/bridge.php</div></article>")
    assert got.count(LINE) == 12 and "bridge.php" not in got


@pytest.mark.parametrize("name", """caption-text highlights-list banner-text paywall-free breadcrumb-text
    outbrain-study video-player-description gallery-nav-text advert-history byline-policy signup-help
    dateline-text masthead-history pagination-info sponsor-story you-may-text promo-text related-info
    subscription-help recommended-text newsletter-archive""".split())
def test_no_name_erases_long_prose_without_a_link(name):
    got = read(f"<main>{story(4)}<div class='{name}'>{INSIDE}<p>Third: {LINE}</p></div>{story(3)}</main>")
    assert "Inside" in got, f"prose called {name}"
    box = f"<div class='{name}'><p>Each week for you, all of it.</p><p><a href=x>More of it</a></p></div>"
    assert "Each week" not in read(f"<main>{story(6)}{box}{story(6)}</main>"), "a box with a link"


@pytest.mark.parametrize("start, end", [
    ("<div class='share-code'><pre>", "</pre></div>"), ("<div class='code-popup'><pre>", "</pre></div>"),
    ("<div class='toolbar'><div><pre>", "</pre></div></div>"), ("<aside><pre>", "</pre></aside>"),
    ("<div class='related-code'><pre><code>", "</code></pre></div>"),
    ("<fieldset><pre>", "</pre></fieldset>"), ("<div class='sidebar'><pre>", "</pre></div>")])
def test_no_name_erases_code(start, end):
    code = "x = compute(1, 2)\nprint(x)\nfor i in range(10):\n    compute(i, i + 1)\n"
    assert "    compute(i, i + 1)" in read(f"<main>{story(3)}{start}{code}{end}{story(3)}</main>")


@pytest.mark.parametrize("start, item", [
    ("<div id=responses class=responses><h3>36 Responses</h3>", "item"),
    ("<div class=talkback><div><h2>Comments (36)</h2></div>", "item"),
    ("<section class=opinie><h3>Komentarze (36)</h3>", "item"), ("<ol class=comment-list>", "comment"),
    ("<div id=readerComments>", "comment"), ("<section class=replies>", "reply")])
def test_what_readers_wrote_below_a_story(start, item):
    notes = "".join(f"<div class={item}><b>ann</b><p>I think number {i} is silly, and so is the town, "
                    "if you ask me or my dog.</p></div>" for i in range(36))
    got = read(f"<article><h1>Bridge</h1>{story(6)}</article>{start}{notes}</{start[1:].split()[0]}>")
    assert "Part 5" in got and "number 7" not in got


@pytest.mark.parametrize("heading, counts", [
    ("36 Responses", True), ("Comments (1,204)", True), ("12 Kommentare", True), ("3. Comments", False),
    ("2.1 Comments", False), ("Comments", False), ("Comments in C++ 11", False), ("5 replies to", True)])
def test_a_heading_that_counts(heading, counts):
    assert bool(COUNTED.match(heading)) == counts, heading


@pytest.mark.parametrize("entry", [
    '<section class="detail" id="{0}(java.lang.String)"><h3>{0}</h3><div class="member-signature">{0}(x)'
    '</div><div class="block">About {0}. {1}</div></section>',
    '<div id="method-i-{0}" class="method-detail"><div><span>{0}(x)</span></div><p>About {0}. {1}</p></div>',
    '<section class="detail" id="{0}/1"><div><h1 class="signature">{0}(x)</h1></div><p>About {0}. {1}</p>'
    '</section>',
    '<div class="odoc-spec"><div class="spec" id="val-{0}"><code>val {0}(x)</code></div>'
    '<div><p>About {0}. {1}</p></div></div>',
    '<section id="{0}"><div class="attr function">def {0}(x)</div><div><p>About {0}. {1}</p></div></section>',
    '<section class="tsd-panel"><h3 id="{0}">{0}</h3><ul class="tsd-signatures"><li class="tsd-signature" '
    'id="{0}-1">{0}(x)</li><li><div class="tsd-comment"><p>About {0}. {1}</p></div></li></ul></section>',
    '<div class="refentry" id="function.{0}"><div><h1>{0}</h1></div><div>{0}(x)</div><p>About {0}. {1}</p></div>',
    '<table><tr id="{0}"><td><code>{0}(x)</code></td><td>About {0}. {1}</td></tr></table>',
    '<ul><li id="{0}"><code>{0}(x)</code>: About {0}. {1}</li></ul>'])
def test_entries_of_functions_by_other_generators(entry):
    names = ("print", "share", "menu", "comments", "rating", "subscribe")
    got = read(f"<main><h1>API</h1>{story(2)}" + "".join(entry.format(n, LINE) for n in names) + "</main>")
    lost = [n for n in names if f"{n}(x)" not in got or f"About {n}." not in got]
    assert not lost, f"{lost} of {entry[:60]}"


@pytest.mark.parametrize("start", ["<p><a href=x>Link", "<ul><li><a href=x>Link</ul>",
                                   "<div><a href=x>Link</div>"])
def test_a_link_that_nobody_closed_ends_with_its_block(start):
    assert "Inside" in read(f"<main>{start}{INSIDE}</main>")
    run = parse("<p><a href=x>one<p>two</a>")[0].children[1].children[0]
    assert (run.text, run.link) == ("two", 0), "its block closed it"
    run = parse("<a href=x><p>one</p><p>two</p></a>")[0].children[1].children[0]
    assert (run.text, run.link) == ("two", 3), "a link around blocks is in all of them"


def test_the_story_that_is_told_to_search_engines_alone():
    body = r'"@type": "NewsArticle", "articleBody" : "Part 0: ' + LINE * 4 + r' \"Yes\" &amp; so.\n\nEnd."'
    page = '<html><script type="application/ld+json">{%s}</script><body>%s</body></html>'
    got = extract_text((page % (body, "<div id=app></div>")).encode())
    assert "Part 0:" in got and '"Yes" & so.\n\nEnd.' in got
    assert "Part 0:" not in extract_text((page % (body, story(5, "clerk"))).encode()), "beside a text"
    assert extract_text((page % (r'"articleBody": "bad \q escape, ' + LINE * 4 + '"', "")).encode()) == ""


def test_a_page_of_nothing_but_menus_is_not_its_footer():
    menu = "".join(f"<li><a href=/{i}>Chapter {i}: the story goes on</a>" for i in range(30))
    assert "Copyright" not in read(f"<nav class=toc><h2>Contents</h2><ol>{menu}</ol></nav>")


def test_a_product_is_its_summary_its_description_and_its_table():
    got = read(f"""<main><div class=product><div class=summary><h1>Saw</h1><p class=price>$ 20</p><div>
        <p>A saw for wood, with a handle.</p></div></div><div class='tabs'><div class='panel'>{story(2)}
        </div><div><table><tr><th>Weight</th><td>2 kg</td></tr></table></div></div></div></main>""")
    assert "A saw for wood" in got and "Part 1" in got and "Weight | 2 kg" in got


@pytest.mark.parametrize("question, answer", [
    ("<div class=toptext>{}</div>", "<div class='commtext c00'>{}</div>"),
    ("<div class=story_text>{}</div>", "<div class=comment><div class=comment_text>{}</div></div>"),
    ("<div class=md-div>{}</div>", "<li class=comment><article class=comment-node>{}</article></li>"),
    ("<div class=md>{}</div>", "<li class=note><div class=note-header>ann</div><div class=md>{}</div></li>"),
    ("<div class=kmsg>{}</div>", "<div class=kblock><div class=kprofile>ann</div><div>{}</div></div>")])
def test_more_forums(question, answer):
    got = read(question.format(f"<p>Question: {LINE}</p>")
               + "".join(answer.format(f"<p>Reply {i}: {LINE}</p>") for i in range(4)))
    assert "Question" in got and all(f"Reply {i}" in got for i in range(4))


@pytest.mark.parametrize("markup, tex", [
    ('<img src="https://i.upmath.me/svg/%5Cint_0%5E1%20x%5C%2Cdx">', r"$\int_0^1 x\,dx$"),
    ('<img src="https://tex.s2cms.ru/svg/x%5E2%2B1">', "$x^2+1$"),
    ('<img src="https://tex.z-dn.net/?f=x%5E%7B2%7D%20%2B%201">', "$x^{2} + 1$"),
    ('<img class="ql-img-inline-formula quicklatex-auto-format" src=q.png '
     'alt="&#92;&#40;&#32;&#120;&#94;&#50;&#32;&#92;&#41;">', "$x^2$"),
    (r'<img class="texrender" src=pix.php alt="\frac{1}{2}">', r"$\frac{1}{2}$"),
    ('<img src="data:image/gif;base64,R0" data-src="https://latex.codecogs.com/gif.latex?n%5E3">', "$n^3$"),
    ("<mml:math><mml:mfrac><mml:mi>a</mml:mi><mml:mi>b</mml:mi></mml:mfrac></mml:math>", r"$\frac{a}{b}$"),
    ('<math><mstyle mathvariant="double-struck"><mi>R</mi></mstyle></math>', r"$\mathbb{R}$"),
    ('<math><menclose notation="radical"><mi>x</mi></menclose></math>', r"$\sqrt{x}$"),
    ('<math><menclose notation="box"><mi>x</mi></menclose></math>', r"$\boxed{x}$"),
    ('<math><annotation encoding="application/x-tex">a+b%</annotation></math>', "$a+b$"),
    (r'<math><annotation encoding="application/x-tex">50\%</annotation></math>', r"$50\%$"),
    ('<span class="mjx-chtml MathJax_CHTML"><span>x2</span><span class="MJX_Assistive_MathML"><math><mi>x'
     '</mi></math></span></span><script type="math/tex">x^2</script>', "$x^2$")])
def test_formulae_of_other_services(markup, tex):
    got = read(f"<main>{story(2)}<p>Let {markup} be given.</p>{story(2)}</main>")
    assert f"Let {tex} be given." in got, got.splitlines()[4]


def test_topics_with_linked_headings_around_a_story_do_not_make_it_a_teaser():
    topics = "".join(f"<h3 class=cat><a href=/t{i}>topic {i}</a></h3>" for i in range(3))
    got = read(f"<div id=left><div class=topics>{topics}</div>{story(8)}<div>{topics}</div></div>"
               "<div class=photo>A line about the office, which is open on Mondays, and more of it, so "
               "that it is long enough for a paragraph, two lines or three.</div>")
    assert got.count(LINE) == 8, "linked headings before and after a story"


def test_a_story_for_readers_without_scripts_beside_a_long_menu():
    menu = "".join(f"<li>Section {i} of the paper</li>" for i in range(20))
    got = extract_text(f"<div><ul>{menu}</ul></div><noscript>{story(12)}</noscript>".encode())
    assert "Part 11" in got, "a menu is no reason not to look into noscript"


def test_a_long_caption_is_one_run_and_no_prose():
    caption = f"<div class=caption><span>{LINE} {LINE} {LINE}</span></div>".replace("mayor", "photographer")
    got = read(f"<main>{story(3)}{(caption + '<img>') * 12}</main>")
    assert got.count("mayor") == 3 and "photographer" not in got, "captions hold most of the page"


def test_a_long_chapter_beside_short_ones_is_not_the_page():
    short = f"<div class=sect3><h4>Short</h4><p>Short: {LINE}</p></div>"
    got = read(f"<div class=sect2>{short * 3}<div class=sect3><h4>Long</h4>{story(20)}</div></div>")
    assert got.count("Short:") == 3, "three chapters of four per cent each are more than a tenth"


NUMBERED = [
    '<div class="highlight"><table class="highlighttable"><tr><td class="linenos"><div class="linenodiv">'
    '<pre>1\n2</pre></div></td><td class="code"><pre>def f():\n    return 1\n</pre></td></tr></table></div>',
    '<pre class="highlight"><code><table class="rouge-table"><tr><td class="rouge-gutter gl"><pre class="lineno">'
    '1\n2\n</pre></td><td class="rouge-code"><pre>def f():\n    return 1\n</pre></td></tr></table></code></pre>',
    '<figure class="highlight"><table><tr><td class="gutter"><pre><span class="line">1</span><br><span class="line">'
    '2</span><br></pre></td><td class="code"><pre><span class="line">def f():</span><br><span class="line">'
    '    return 1</span><br></pre></td></tr></table></figure>',
    '<pre class="chroma"><code><span class="line"><span class="ln">1</span><span class="cl">def f():\n</span></span>'
    '<span class="line"><span class="ln">2</span><span class="cl">    return 1\n</span></span></code></pre>',
    '<div class="fragment"><div class="line"><a name="l1"></a><span class="lineno">    1</span>&#160;def f():</div>'
    '<div class="line"><span class="lineno">    2</span>&#160;    return 1</div></div>']


@pytest.mark.parametrize("code", NUMBERED)
def test_numbers_of_lines_are_no_code(code):
    text = read(f"<main>{story(4)}{code}{story(4, 'baker')}</main>")
    assert "\n\ndef f():\n    return 1\n\nPart 0" in text


@pytest.mark.parametrize("code, want", [
    ('<pre><code><span class="highlight-line"><span>npm i</span></span><span class="highlight-line">'
     '<span>npm run</span></span></code></pre>', "npm i\nnpm run"),                          # GitBook
    ('<pre><span class="token-line">npm i<br></span><span class="token-line">npm run<br></span></pre>',
     "npm i\nnpm run"),
    ('<pre><span class="line">npm i</span>\n<span class="line">npm run</span></pre>', "npm i\nnpm run"),
    ("<xmp><b>x</b>\n  y</xmp>", "<b>x</b>\n  y"), ("<listing>a\n  b</listing>", "a\n  b"),
    ('<table><tr><td class="ln">1 of them</td><td>b</td></tr></table>', "1 of them | b")])
def test_lines_of_code_keep_their_ends(code, want):
    assert f"\n\n{want}\n\nPart 0" in read(f"<main>{story(4)}{code}{story(4, 'baker')}</main>")


def test_a_grid_of_boxes_called_line_is_no_code():
    page = f'<div class="line"><div class="unit">{story(3)}</div><div class="unit">{story(3, "baker")}</div></div>'
    assert "\n\nPart 2" in read(page)


def test_cells_with_a_paragraph_each_stand_in_a_row():
    table = """<table><thead><tr><th><p>Name</p></th><th><p>Meaning</p></th></tr></thead><tr><td><p>a</p></td>
        <td><p>first</p></td></tr><tr><td>&nbsp;</td><td><p>alone</p></td></tr></table>"""
    assert "\n\nName | Meaning\na | first\nalone\n\n" in read(f"<main>{story(3)}{table}{story(3, 'baker')}</main>")


@pytest.mark.parametrize("link", ['<a class="copiable-link" href="#x"> &para;</a>', '<a href="#x">#</a>',
                                  '<a href="#x" class="el">&#9670;&#160;</a>', '<a href="#x">§</a>'])
def test_the_sign_of_a_heading_that_links_to_itself_goes(link):
    assert "\n\nChapter two\n\n" in read(f"<main>{story(3)}<h2>Chapter two{link}</h2>{story(3, 'baker')}</main>")


@pytest.mark.parametrize("line", [
    "Get the current user.", "Listen on port 8080.", "Download the file.", "Watch out.",
    "Related work is rare.", "Share it between threads.", "Anzeige der Werte."])
def test_a_short_sentence_that_begins_like_a_lead_elsewhere_stays(line):
    assert f"\n\n{line}\n\n" in read(f"<main>{story(3)}<p>{line}</p>{story(3, 'baker')}</main>")


@pytest.mark.parametrize("line", [
    "Subscribe to our newsletter.", "Follow us on Twitter.", "Read more: the other story.", "Get the app",
    "Click here to subscribe.", "You may also like...", "Photo by John Smith."])
def test_a_lead_elsewhere_goes_whatever_ends_it(line):
    assert line not in read(f"<main>{story(3)}<p>{line}</p>{story(3, 'baker')}</main>")


@pytest.mark.parametrize("name, heading", [("publicite", "Publicité"), ("popups", "Pop-ups")])
def test_an_id_without_the_accents_and_hyphens_of_its_heading(name, heading):
    assert "Inside" in read(f'<main>{story(5)}<section id="{name}"><h2>{heading}</h2>{INSIDE}</section></main>')


@pytest.mark.parametrize("page", [
    '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="x"/></head><body>{}',
    '<html><body><iframe src="x" />{}', "<html><body><a>Home {}", "<html><body><a/>{}"])
def test_an_element_that_closes_itself_swallows_nothing(page):
    assert "Part 4" in extract_text(page.format(story(5)).encode())


def test_answers_that_a_page_tells_machines_only():
    said = '{"@type":"FAQPage","mainEntity":[{"acceptedAnswer":{"@type":"Answer","text":"%s"}}]}' % (LINE * 4)
    page = f'<html><body><script type="application/ld+json">{said}</script><div id="root"></div>'
    assert LINE in extract_text(page.encode())


def test_a_post_stays_that_stands_beside_three_quarters_of_replies():
    replies = "".join(f'<li class="comment">{story(1, who)}</li>' for who in ("baker", "cook", "smith", "clerk"))
    page = f'<div class="post-body"><p>First, {LINE}</p></div><ul class="comments">{replies}</ul>'
    assert "First, " in read(page) and "clerk" in read(page)
