"""Open book: pages go both ways, made-up questions can only be copied, the rule sees the page."""

import random
import re

import pytest

import installed_docs
from doc_entries import Entry
from gold_rule import gold_scores, points
from instructions import MADE_UP, SHARES, argument_names, open_half
from made_up import made_up_pairs
from open_book import (PageEntry, on_page, opened, page_entry, sentence_of, split_page, token_f1,
                       with_page)
from pretokenize import split
from right_answers import examples, held_out_questions, shares


def entry(name, doc="Return the sum of a and b.", arguments="a, b=1"):
    return Entry("p", "p.q", "", name, arguments, False, doc)


A, B = page_entry(entry("add")), page_entry(entry("sub", "Return what is left. And more."))


def test_a_page_and_the_way_back():
    message = with_page("What does p.q.add do?", A, B, asked_first=False)
    assert message == ("# p.q.sub: Return what is left.\n\n"
                       "# p.q.add: Return the sum of a and b.\n\nWhat does p.q.add do?")
    as_pydoc = message.replace("# ", "").replace(": Return", "(a, b=1)\n    Return")
    assert split_page(as_pydoc) == split_page(message), "pydoc's layout is a page too"
    page, question = split_page(message)
    assert page == {"p.q.add": A.sentence, "p.q.sub": B.sentence}
    assert question == "What does p.q.add do?" and on_page(message) == A.sentence
    assert on_page(message.replace("q.add do", "q.sub do")) == B.sentence, "the name that is asked"
    for other in ("What does p.q.add do?", "One.\n\nTwo?", "f(x)\n  no page\n\nWhat does f do?",
                  message.replace("q.add do", "q.mul do")):
        assert on_page(other) == "", other


def test_the_sentence_of_an_answer():
    assert A.answer == "From the page, p.q.add: Return the sum of a and b."
    assert sentence_of(A.answer) == A.sentence == sentence_of(A.sentence)
    twice = "From the page, a.b: From the page, c: x."
    assert sentence_of(twice) == "From the page, c: x." and sentence_of("") == ""
    assert sentence_of("From the page, a.b.") == ""


def test_what_fits_no_page_is_left_out():
    assert page_entry(entry("f", "")) is None and page_entry(entry("f", "x " * 60 + ".")) is None
    assert page_entry(entry("f", arguments="a" * 70)) is not None, "arguments are not on it"
    assert page_entry(entry("f" * 70)) is None


@pytest.mark.parametrize("said, wanted, f1", [
    ("Sort x.", "Sort x.", 1), ("sort the array", "sort an array", 2 / 3), ("", "a", 0), ("", "", 1),
    ("a a a", "a", 0.5), ("b", "a", 0)])
def test_token_f1(said, wanted, f1):
    assert token_f1(said, wanted) == pytest.approx(f1)


def closed(count):
    return [{"messages": [{"role": "user", "content": f"What does p.q.f{i} do?"},
                          {"role": "assistant", "content": f"Return the number {i} of all those things."}],
             "package": "p", "kind": "does", "name": f"p.q.f{i}", "split": "train",
             "page": page_entry(entry(f"f{i}", f"Return the number {i} of all those things."))}
            for i in range(count)]


def test_every_page_once_and_nothing_both_ways():
    pairs = closed(300)
    mixed = open_half(pairs, 0)
    opens = [p for p in mixed if p["kind"] == "open"]
    rest = {p["name"] for p in mixed if p["kind"] == "does"}
    assert 150 < len(opens) < 250 and not {p["name"] for p in opens} & rest
    assert len(opens) + len(rest) == 300 and mixed == open_half(pairs, 0)
    assert len({p["messages"][0]["content"] for p in opens}) == len(opens)
    for pair in opens:
        asked, said = (m["content"] for m in pair["messages"])
        assert said == f"From the page, {pair['name']}: {on_page(asked)}", "of that very name"
    two = sum(len(split_page(p["messages"][0]["content"])[0]) == 2 for p in opens) / len(opens)
    first = sum(p["messages"][0]["content"].startswith(f"# {p['name']}:") for p in opens) / len(opens)
    assert 0.6 < two < 0.95 and 0.4 < first < 0.8, f"{two:.2f} with two entries, {first:.2f} first"
    assert opened([], random.Random(0)) == []


COUNTS = {"open": 60, "arguments": 60, "kind": 60, "repeat": 30}


def test_made_up_questions_are_answered_by_themselves():
    pairs = closed(50)
    made = made_up_pairs(COUNTS, 0, pairs)
    assert made == made_up_pairs(COUNTS, 0, pairs) != made_up_pairs(COUNTS, 1, pairs)
    assert len({m["messages"][0]["content"] for m in made}) == 210 == len(made), "each once"
    for pair in made:
        asked, said = (m["content"] for m in pair["messages"])
        if pair["kind"] == "open":
            assert on_page(asked) and said == f"From the page, {pair['name']}: {on_page(asked)}"
        elif pair["kind"] == "repeat":
            assert asked == f"Repeat:\n{said}"
        elif pair["kind"] == "kind":
            name, what = re.fullmatch(r"By its name, (\S+) is a (class|function)\.",
                                      said).groups()
            assert f"Is {name} a" in asked
            assert name.rpartition(".")[2][:1].isupper() == (what == "class")
        else:
            inside = asked.partition("(")[2].rpartition(")")[0]
            names = argument_names(inside)
            assert said.rstrip(".").replace(" and ", ", ").split(", ") == names, (asked, said)


def test_made_up_names_are_as_tricky_as_real_ones():
    names = [m["name"] for m in made_up_pairs({"kind": 120}, 0, closed(50))]
    functions = [n for n in names if not n.rpartition(".")[2][:1].isupper()]
    assert any(n != n.lower() for n in functions), "capitals elsewhere do not make a class"
    twice = [n for n in names if any(n.lower().count(part.lower()) > 1
                                     for part in n.split(".")[:-1] if len(part) > 3)]
    assert len(twice) > 20, "a piece that comes twice is where copying goes round in circles"


def inside(part, whole):
    """Does the list `part` stand in the list `whole`, in one piece?"""
    return any(whole[i:i + len(part)] == part for i in range(len(whole)))


def test_what_is_to_be_copied_has_the_same_tokens_in_question_and_answer():
    for pair in made_up_pairs(COUNTS, 0, closed(50)) + opened(closed(50), random.Random(0)):
        asked, said = (split(m["content"]) for m in pair["messages"])
        if pair["kind"] == "arguments":         # the separators may differ, the first name not
            asked, said = asked[asked.index("(") + 1:] if "(" in asked else asked, said[:1]
        elif pair["kind"] in ("kind", "open"):
            said = split(f" {pair['name']}")
            assert inside(said, split(pair["messages"][1]["content"])), pair
            line = split(f" {pair['name']}: {sentence_of(pair['messages'][1]['content'])}")
            assert pair["kind"] == "kind" or inside(line, asked), "page and answer go on alike"
        assert inside(said, asked) or "self" in asked or said == ["args"], \
            f"{said} is not among the pieces {asked}: a blank before a word makes another token"
        if pair["kind"] == "open":              # the heading and the question name it alike
            places = [i for i in range(len(asked)) if asked[i:][:1] == split(f" {pair['name']}")[:1]]
            assert len(places) >= 2, (pair["name"], asked)


def test_the_shares_are_of_one_whole():
    assert sum(SHARES.values()) + sum(MADE_UP.values()) == pytest.approx(1)


def test_the_gold_rule_checks_the_page():
    asked = with_page("What does p.q.add do?", A, B, True)
    right, wrong = points(asked, A.answer, True), points(asked, B.answer, True)
    assert right == points(asked, A.sentence, True), "the words before the sentence do not count"
    assert (right["on page"], right["relevance"], right["imperative"]) == (1, 2, 0)
    assert wrong["on page"] == 0 and wrong["relevance"] < 0.8, "the other entry's sentence is wrong"
    cut = points(asked, "From the page, p.q.", True)
    assert cut["sentence"] == 0 and cut["length"] == -1, "naming an entry is not yet saying anything"
    bald = with_page("What does p.q.mul do?", PageEntry("p.q.mul", "Multiply two things"), A, True)
    as_it_stands = points(bald, "From the page, p.q.mul: Multiply two things", True)
    assert as_it_stands["sentence"] == as_it_stands["on page"] == 1, "no period on the page"
    assert points(bald, "From the page, p.q.mul: Multiply two things.", True)["on page"] == 0
    bare = points("What does p.q.add do?", A.sentence, True)
    assert bare["on page"] == 0 and bare["imperative"] == 1, "without a page as before"
    assert gold_scores([asked] * 2, [A.sentence, B.sentence], [True] * 2)[0] == 4


# --------------------------------------------------------------------------- the table, the look-up

def test_the_table_counts_whole_answers_that_ended():
    questions = [{"kind": "arguments", "question": "?", "answer": "a and b."}] * 4
    got = shares(questions, [("a and b.", True), ("a and b.", False), ("a and c.", True),
                             ("", True)])
    page = [{"kind": "open", "question": "?", "answer": A.answer}]
    assert shares(page, [(B.answer, True)])["open"]["f1"] < 0.2, "the name is not what counts"
    cell = got["arguments"]
    assert cell["exact"] == 0.25 and cell["questions"] == 4 and 0 < cell["interval"][0] < 0.25
    assert cell["f1"] == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    kept = examples(questions[:1] * 3, {"base": [("x", True)] * 3, "sft": [("a and b.", True),
                                                                      ("x", True), ("y", True)]})
    assert [k["right"] for k in kept] == [True, False, False] and kept[0]["answers"]["base"] == "x"
    records = [{"kind": k, "messages": [{"role": "user", "content": "q"},
                                        {"role": "assistant", "content": "a"}]}
               for k in ("open", "kind", "kind", "repeat")]
    assert [q["kind"] for q in held_out_questions(records, 1)] == ["kind", "open"]


def test_names_in_a_question():
    assert installed_docs.names_in("What does numpy.array_split do?") == ["numpy.array_split"]
    assert installed_docs.names_in("Tell me about OrderedDict please")[0] == "OrderedDict"
    assert installed_docs.names_in("What is it?") == []


def test_the_readers_own_packages_are_looked_up():
    asked, found = installed_docs.with_documentation("What does textwrap.dedent do?")
    assert found == "textwrap.dedent" and on_page(asked).startswith("Remove any common leading")
    asked, found = installed_docs.with_documentation("List the arguments of textwrap.fill.")
    assert asked == "List the arguments of fill(text, width=70, **kwargs)." and found
    for plain in ("What does no_such.thing do?", "Hello!", "f(x)\n    y\n\nWhat does f do?"):
        assert installed_docs.with_documentation(plain) == (plain, ""), plain


def test_a_module_that_fails_or_hangs_is_no_page(monkeypatch):
    import subprocess

    def slow(*args, **how):
        raise subprocess.TimeoutExpired("x", 1)
    monkeypatch.setattr(installed_docs.subprocess, "run", slow)
    installed_docs.documented.cache_clear()
    assert installed_docs.with_documentation("What does json.loads do?")[1] == ""
    installed_docs.documented.cache_clear()
