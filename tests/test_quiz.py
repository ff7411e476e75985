"""The questions of the seven chapters: ten each, three wrong ideas, numbers that are computed."""

import csv
import io
import math
import re
import zipfile
from xml.etree import ElementTree as ET

import pytest

from learning.exercises import chapter_folders
from learning.qti import PACKAGE, QTI, qti
from learning.quiz import as_csv, gift, load_questions, options, questions


def number_of(text):
    found = re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", text)
    return float(text) if found else None


@pytest.mark.parametrize("chapter", chapter_folders())
def test_ten_questions_with_three_wrong_ideas_each(chapter):
    asked = load_questions(chapter)
    assert len(asked) == 10
    for q in asked:
        given = [q["right"], *(option for option, _ in q["wrong"])]
        assert len(q["wrong"]) == 3 and len(set(given)) == 4, q["ask"]
        assert all(idea for _, idea in q["wrong"]), "a wrong option without its idea"


@pytest.mark.parametrize("question", [pytest.param(q, id=q["id"]) for q in load_questions()])
def test_right_numbers_are_computed_and_wrong_ones_differ(question):
    right = number_of(question["right"])
    assert right is None or "computed" in question, f"{question['ask']}: how is {right} computed?"
    if "computed" in question:
        answer = eval(question["computed"], {})
        assert math.isclose(answer, right, rel_tol=0.005), f"{question['ask']}: {answer}"
        for option, _ in question["wrong"]:
            other = number_of(option)
            assert other is None or not math.isclose(other, answer, rel_tol=4e-4), option


def test_both_forms_hold_every_option_once():
    asked = load_questions()
    text = gift(asked)
    blocks = re.findall(r"^::(\S+?)::(.*?)\{\n(.*?)\n\}", text, re.M | re.S)
    assert len(blocks) == 70 and text.count("$CATEGORY:") == 7
    for _, _, body in blocks:
        marks = [line[1] for line in body.split("\n")]
        assert sorted(marks) == ["=", "~", "~", "~"], body
    rows = list(csv.DictReader(io.StringIO(as_csv(asked))))
    assert len(rows) == 280 and sum(int(row["right"]) for row in rows) == 70


@pytest.fixture(scope="module")
def package():
    """{file: its XML} of the QTI package of all questions."""
    with zipfile.ZipFile(io.BytesIO(qti(load_questions(), options))) as whole:
        assert whole.testzip() is None
        return {name: ET.fromstring(whole.read(name)) for name in whole.namelist()}


def test_the_manifest_lists_every_file_once_and_what_each_needs(package):
    resources = package["imsmanifest.xml"].findall(f".//{{{PACKAGE}}}resource")
    files = [r.get("href") for r in resources]
    assert sorted([*files, "imsmanifest.xml"]) == sorted(package), "a file is not listed, or lacks"
    kinds = [r.get("type") for r in resources]
    assert (kinds.count("imsqti_item_xmlv2p1"), kinds.count("imsqti_test_xmlv2p1")) == (70, 7)
    names = {r.get("identifier") for r in resources}
    assert len(names) == len(resources)
    for r in resources:
        assert [f.get("href") for f in r.findall(f"{{{PACKAGE}}}file")] == [r.get("href")]
        assert {d.get("identifierref") for d in r.findall(f"{{{PACKAGE}}}dependency")} <= names


def test_each_item_has_one_right_choice_and_says_something_to_every_choice(package):
    asked = {f"q{q['chapter'][1]}_{q['id'].split('.q')[1]}.xml": q for q in load_questions()}
    def at(tag):
        return f".//{{{QTI}}}{tag}"
    for name, q in asked.items():
        root = package[name]
        assert re.fullmatch(r"[A-Za-z_][\w-]*", root.get("identifier")), "no XML name"
        choices = {c.get("identifier"): c.text for c in root.findall(at("simpleChoice"))}
        right = [v.text for v in root.findall(at("correctResponse") + f"/{{{QTI}}}value")]
        assert [choices[r] for r in right] == [q["right"]], name
        assert sorted(choices.values()) == sorted([q["right"], *(o for o, _ in q["wrong"])])
        said = {f.get("identifier"): f.text for f in root.findall(at("modalFeedback"))}
        assert set(said) == set(choices), "an option without its idea"
        for option, idea in q["wrong"]:
            letter = next(k for k, v in choices.items() if v == option)
            assert said[letter] == f"the idea: {idea}"
        assert root.find(at("prompt")).text == q["ask"]
        assert root.find(at("choiceInteraction")).get("responseIdentifier") == "RESPONSE"
        # elements stand in the order that the specification's schema asks for
        assert [e.tag.partition("}")[2] for e in root] == [
            "responseDeclaration", "outcomeDeclaration", "outcomeDeclaration", "itemBody",
            "responseProcessing", *["modalFeedback"] * 4]


def test_a_test_for_each_chapter_refers_to_its_ten_items(package):
    tests = [root for name, root in package.items() if name.startswith("test_")]
    assert len(tests) == 7
    for root in tests:
        refs = [r.get("href") for r in root.iter(f"{{{QTI}}}assessmentItemRef")]
        assert len(refs) == len(set(refs)) == 10 and set(refs) <= set(package), refs


def test_the_package_is_the_same_each_time_and_needs_a_file_name(tmp_path, capsys):
    assert qti(load_questions(3), options) == qti(load_questions(3), options)
    questions(3, "qti", tmp_path / "q.zip")
    assert "10 questions" in capsys.readouterr().out and zipfile.is_zipfile(tmp_path / "q.zip")
    with pytest.raises(SystemExit, match="--out"):
        questions(3, "qti", None)
