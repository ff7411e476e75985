"""html_tree and main_text: what nests, what weighs, and where the story is."""

import pytest

from extract import extract_text
from html_tree import Node, Run, attribute, parse
from main_text import story_node, weigh
from prune import prune
from trim_story import trim
from unwanted import evidence

LINE = "The mayor opened the bridge on Monday, two years late."          # 54 characters


def outline(node):
    """A tree as nested lists of tags and texts."""
    return [node.tag] + [child.text.strip() if isinstance(child, Run) else outline(child)
                         for child in node.children]


def block(tag="div", attributes="", *children):
    """A node with children: strings are runs, (string, n) runs with n characters in links."""
    node = Node(tag, attributes, None)
    for child in children:
        if isinstance(child, (str, tuple)):
            text, link = (child, 0) if isinstance(child, str) else child
            child = Run(text, link, node)
        else:
            child.parent = node
        node.children.append(child)
    return node


def in_order(node):
    """All nodes of a tree in document order."""
    found = [node]
    for child in node.children:
        if isinstance(child, Node):
            found += in_order(child)
    return found


@pytest.mark.parametrize("page, want", [
    ("<p>a<p>b", ["body", ["p", "a"], ["p", "b"]]),
    ("<ul><li>a<li>b<ul><li>c</ul></ul>d",
     ["body", ["ul", ["li", "a"], ["li", "b", ["ul", ["li", "c"]]]], "d"]),
    ("<table><tr><td>a<td>b<tr><td>c</table>",
     ["body", ["table", ["tr", ["td", "a"], ["td", "b"]], ["tr", ["td", "c"]]]]),
    ("<div>a</p></div></div>b", ["body", ["div", "a"], "b"]),
    ("<div title='a>b' x=\"<p>\">c</div>", ["body", ["div", "c"]]),
    ("a<script>'<p>no</p>'</script>b<!-- <p>no -->c", ["body", "abc"]),
    ("a &lt;p&gt; &amp;amp; &nosuch; 1 < 2", ["body", "a <p> &amp; &nosuch; 1 < 2"]),
    ("<p>a<script>var x = '<p>b</p>'", ["body", ["p", "a"]]),
    ("<p>a<a name=x>b<p>c", ["body", ["p", "ab"], ["p", "c"]]),
    ("<h3><button>Why?</button></h3>b<button>no</button>", ["body", ["h3", "Why?"], "b"]),
    ("a<button>no<p>b</p><button>no</button>c", ["body", "ano", ["p", "b"], "c"]),
    ("a<!-- no --!><p>b", ["body", "a", ["p", "b"]]),
    ("<div><h3>a<p>b<h3>c</div>d", ["body", ["div", ["h3", "a"], ["p", "b"], ["h3", "c"]], "d"]),
    ("<h2>a</h3>b<h2>c<div>d</div></h2>", ["body", ["h2", "a"], "b", ["h2", "c", ["div", "d"]]]),
    ("<pre>a<div id=x>b</div>\n<p>c</div></pre>d", ["body", ["pre", "a\nb\n\nc"], "d"]),
    ("<div><pre>a<ul><li>b<li>c</div>d", ["body", ["div", ["pre", "a\nb\nc"]], "d"]),
    ("<P CLASS=x>a</P><button>no</button>b", ["body", ["p", "a"], "b"]),
])
def test_parse(page, want):
    assert outline(parse(page)[0]) == want


def test_attributes():
    text = """ id=x class="a b" data-id='1' TITLE='5 &gt; 4'"""
    assert [attribute(text, n) for n in ("id", "class", "title", "no")] == ["x", "a b", "5 > 4", ""]


def test_numbers_of_thousands_of_digits_stay():
    assert outline(parse("&amp; &#" + "5" * 9999)[0]) == ["body", "& &#" + "5" * 9999]


@pytest.mark.exercise("2.6")
@pytest.mark.parametrize("run, mass, mistake", [
    ((LINE, 0), 54, "its length"), (("  " + LINE + "\n", 0), 54, "blanks at the ends do not count"),
    ((LINE, 54), 0, "all of it is a link"), ((LINE, 27), 0, "half of it is a link: not less"),
    ((LINE, 26), 54, "less than half is a link"), (("Hello, world. Bye.", 0), 0, "too short"),
    (("Hello, wide world.." + ".", 0), 20, "just long enough"),
    (("Home News Sport Weather Opinion", 0), 0, "no sign of a sentence"),
    (("新しい橋が月曜日に開通した。市長は二年遅れだと言った。", 0), 27, "other scripts' full stops"),
])
def test_prose_mass_of_a_run(run, mass, mistake):
    node = block("p", "", run)
    weigh([node])
    assert (node.mass, node.children[0].mass) == (mass, mass), mistake
    assert node.size == len(run[0].strip()) and node.link == run[1]


@pytest.mark.exercise("2.6")
def test_a_block_weighs_what_its_children_weigh_without_the_dropped():
    inner = block("div", "", block("p", "", LINE), block("p", "", ("Menu", 4)))
    gone = block("p", "", LINE)
    root = block("body", "", inner, LINE, gone)
    gone.dropped = True
    weigh(in_order(root))
    assert (inner.mass, inner.size, inner.link) == (54, 58, 4)
    assert (root.mass, root.size, root.link) == (108, 112, 4), "a dropped child counts nothing"
    assert (gone.mass, gone.size, gone.link) == (54, 54, 0), "but has its own numbers, as every node"
    weigh(in_order(root))
    assert root.mass == 108, "weighing twice must not add up"


def weighed(root, masses):
    """Give the nodes of a tree the masses listed in document order."""
    nodes = in_order(root)
    for node, mass in zip(nodes, masses, strict=True):
        node.mass = mass
    return root, nodes


@pytest.mark.exercise("2.7")
@pytest.mark.parametrize("masses, want", [
    ([100, 75, 40, 35, 25], "b"), ([100, 74, 74, 0, 26], "a"), ([100, 100, 90, 10, 0], "c"),
    ([100, 20, 20, 0, 80], "e"), ([100, 80, 62, 18, 20], "c"), ([100, 0, 0, 0, 0], "a"),
    ([0, 0, 0, 0, 0], "a")])
def test_walk_down_while_one_child_dominates(masses, want):
    tree = block("body", "a", block("div", "b", block("div", "c"), block("div", "d")),
                 block("div", "e"))
    got = story_node(*weighed(tree, masses)).attributes
    assert got == want, f"masses a..e {masses}: stopped at {got}, expected {want}"


@pytest.mark.exercise("2.7")
def test_a_paragraph_is_never_the_story_and_a_dropped_block_never_entered():
    tree = block("body", "a", block("div", "b", block("p", "c")), block("div", "d"))
    assert story_node(*weighed(tree, [100, 95, 95, 5])).attributes == "b", "entered a <p>"
    tree.children[0].dropped = True
    assert story_node(*weighed(tree, [100, 95, 95, 5])).attributes == "a", "entered a dropped block"


@pytest.mark.exercise("2.7")
@pytest.mark.parametrize("tag", ["p", "dd", "details"])
def test_a_part_of_a_page_is_never_entered(tag):
    tree = block("body", "a", block(tag, "b"), block("div", "c"))
    assert story_node(*weighed(tree, [100, 95, 5])).attributes == "a", f"entered a <{tag}>"


@pytest.mark.exercise("2.7")
@pytest.mark.parametrize("tag, masses, want", [
    ("p", [100, 90, 10], "root"), ("ul", [100, 97, 3], "root"), ("p", [100, 98, 2], "first"),
    ("div", [100, 90, 10], "first")])
def test_a_block_with_paragraphs_beside_it_is_not_the_whole(tag, masses, want):
    tree = block("body", "", block("div"), block(tag))
    got = story_node(*weighed(tree, masses))
    assert ("root" if got is tree else "first") == want, \
        f"a div of {masses[1]} beside a {tag} of {masses[2]}: `prose_beside` against BETWEEN"


@pytest.mark.exercise("2.7")
@pytest.mark.parametrize("kinds, masses, want", [
    (('class="part"', 'class="part"'), [100, 85, 15], "root"),
    (('class="part"', 'class="part"'), [100, 95, 5], "first"),
    (('class="part"', 'class="more"'), [100, 85, 15], "first")])
def test_one_of_several_chapters_is_not_the_whole(kinds, masses, want):
    tree = block("body", "", *(block("div", kind) for kind in kinds))
    got = story_node(*weighed(tree, masses))
    assert ("root" if got is tree else "first") == want, \
        f"blocks {kinds} of {masses[1:]}: `one_of_several` says whether the first is a part"


@pytest.mark.exercise("2.7")
def test_article_body_is_the_story_and_not_what_is_inside_it():
    tree = block("body", "root", block("div", "itemprop=articleBody", block("div", "inner")),
                 block("div", "other"))
    got = story_node(*weighed(tree, [100, 50, 50, 50]))
    assert got.attributes == "itemprop=articleBody", f"stopped at {got.attributes!r}"
    got = story_node(*weighed(tree, [99, 33, 33, 66]))
    assert got is tree, "exactly a third is not more than a third"


@pytest.mark.exercise("2.7")
@pytest.mark.parametrize("name", ['itemprop="ArticleBody"', 'class="articleBody"', "id=x class=ARTICLEBODY"])
@pytest.mark.parametrize("mass, dropped, want", [(34, False, "named"), (33, False, "root"),
                                                 (34, True, "root")])
def test_article_body_is_believed_if_it_holds_a_third(mass, dropped, want, name):
    tree = block("body", "root", block("div", name), block("div", "other"))
    tree.children[0].dropped = dropped
    got = story_node(*weighed(tree, [100, mass, 100 - mass]))
    assert (got is tree) == (want == "root"), f"a block named articleBody with {mass} of 100"


def test_names_tell_what_a_block_is():
    for names in ('class="sidebar"', "id=comments", 'class="cookie-bar"', 'style="display: none"',
                  "aria-hidden=true", 'role="navigation"', "hidden", 'id=x hidden=""',
                  'style="visibility: hidden"', 'class="a hidden b"'):
        assert evidence(Node("div", names, None)), names
    for names in ("", 'class="article-body share"', 'class="story"', 'aria-hidden="false"',
                  'class="overflow-hidden"', 'style="overflow: hidden"', 'hidden="until-found"',
                  'class="hidden md:block"', 'class="md:hidden"'):
        assert evidence(Node("div", names, None)) is None, names
    assert evidence(Node("body", "class=sidebar-x", None)) is None, "never the whole page"


def test_pruning_spares_what_holds_the_page():
    root, nodes = parse(f"<div class=sidebar><p>{LINE * 9}</div><div class=related><p>{LINE}</div>")
    weigh(nodes)
    prune(nodes)
    assert [n.dropped for n in nodes if n.tag == "div"] == [False, True]


@pytest.mark.parametrize("line, gone", [
    ("By Ann Author", True), ("Von Anna Autorin, Hamburg", True), ("Stand: 3. Mai 2024", True),
    ("Publié le 3 mai", True), ("Nov. 19, 2019, 8:41 AM UTC", True),
    ("By Monday evening, the bridge was open again.", False), ("Byron was here", False)])
def test_who_wrote_it_and_when_is_no_text(line, gone):
    text = extract_text(f"<main><p>{line}<p>{LINE * 4}<p>{LINE * 3}</main>".encode())
    assert (line not in text) == gone, line


@pytest.mark.parametrize("heading, last", [
    ("Ähnliche Artikel", True), ("Artículos relacionados", True), ("Schreibe einen Kommentar", True),
    ("Articles similaires", True), ("Gerelateerde berichten", True), ("関連記事", True),
    ("Related stories", True), ("Latest news", True), ("Mehr Geld für Brücken", False),
    ("Você e a ponte", False), ("Related work", False), ("Join types", False),
    ("Recommended settings", False), ("Latest developments", False)])
def test_headings_after_which_nothing_follows(heading, last):
    text = extract_text(f"<main><p>{LINE * 9}<p>{LINE * 9}<h3>{heading}</h3><p>{LINE}</main>".encode())
    assert (heading not in text) == last and text.count(LINE) == 18 + (not last), heading


def test_a_line_that_starts_with_a_label_and_a_colon():
    text = extract_text(f"<main><p>{LINE * 9}<p>Source: Reuters<p>Foto: dpa<p>{LINE * 4}".encode())
    assert "Reuters" not in text and "dpa" not in text


def test_captions_that_name_their_picture_go():
    lines = ["The bridge from above (Image: Reuters)", "The bridge was dear (see the image above)",
             "Advert", "Advertising on the bridge is forbidden, the mayor said on Monday evening."]
    text = extract_text("<main>".encode() + "".join(f"<p>{LINE * 3}<p>{line}" for line in lines).encode()
                        + f"<p>{LINE * 3}".encode())
    assert [line in text.split("\n") for line in lines] == [False, True, False, True]


def test_lines_that_lead_elsewhere_go():
    lines = [LINE * 3, "Read more: Bridge closed again", LINE * 2, "Related stories", "Bridge party"]
    root = block("div", "", *(block("h3" if i == 3 else "p", "", (line, len(line) if i in (1, 4)
                                                                    else 0))
                              for i, line in enumerate(lines)))
    weigh(in_order(root))
    trim(root)
    kept = [p.children[0].text for p in root.children if p.children[0].mass >= 0]
    assert kept == [lines[0], lines[2]]
