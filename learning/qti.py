"""Questions as a QTI 2.1 package: the zip that Canvas, Moodle's plug-ins, TAO and others import.

    python learn.py questions 4 --format qti --out questions.zip

One XML file for each question, one test for each chapter, and imsmanifest.xml that lists them, after
the IMS Question and Test Interoperability specification, version 2.1 (2012). Written with the
standard library. What it leaves out: anything but one right option of several, and pictures.
"""

import io
import zipfile
from xml.etree import ElementTree as ET

QTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"
PACKAGE = "http://www.imsglobal.org/xsd/imscp_v1p1"
DAY = (2026, 1, 1, 0, 0, 0)     # zip files carry a time; the same questions give the same bytes


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    """A new child with these attributes and this text."""
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def name_of(question: dict) -> str:
    """An XML identifier, which begins with a letter and has no full stop: "4.q3" -> "q4_3"."""
    chapter, number = question["id"].split(".q")
    return f"q{chapter}_{number}"


def item(question: dict, options: list[tuple[str, str, bool]]) -> ET.Element:
    """One question: its options in the order given, one point for the right one, and for each
    option what is said when it is chosen."""
    letters = "abcdefgh"[:len(options)]
    root = ET.Element("assessmentItem", {
        "xmlns": QTI, "identifier": name_of(question), "title": question["id"],
        "adaptive": "false", "timeDependent": "false"})
    declared = add(root, "responseDeclaration", identifier="RESPONSE", cardinality="single",
                   baseType="identifier")
    right = next(letter for letter, (_, _, is_right) in zip(letters, options) if is_right)
    add(add(declared, "correctResponse"), "value", right)
    add(root, "outcomeDeclaration", identifier="SCORE", cardinality="single", baseType="float")
    add(root, "outcomeDeclaration", identifier="FEEDBACK", cardinality="single",
        baseType="identifier")
    choice = add(add(root, "itemBody"), "choiceInteraction", responseIdentifier="RESPONSE",
                 shuffle="true", maxChoices="1")
    add(choice, "prompt", question["ask"])
    for letter, (option, _, _) in zip(letters, options):
        add(choice, "simpleChoice", option, identifier=letter)
    score(add(root, "responseProcessing"))
    for letter, (_, said, _) in zip(letters, options):
        add(root, "modalFeedback", said, outcomeIdentifier="FEEDBACK", identifier=letter,
            showHide="show")
    return root


def score(processing: ET.Element) -> None:
    """One point for the correct response, none for another; the feedback is the chosen option's."""
    condition = add(processing, "responseCondition")
    for tag, value in (("responseIf", "1"), ("responseElse", "0")):
        branch = add(condition, tag)
        if tag == "responseIf":
            match = add(branch, "match")
            add(match, "variable", identifier="RESPONSE")
            add(match, "correct", identifier="RESPONSE")
        add(add(branch, "setOutcomeValue", identifier="SCORE"), "baseValue", value,
            baseType="float")
    add(add(processing, "setOutcomeValue", identifier="FEEDBACK"), "variable",
        identifier="RESPONSE")


def test(chapter: str, names: list[str]) -> ET.Element:
    """A chapter's questions as one test, in their order."""
    root = ET.Element("assessmentTest", {"xmlns": QTI, "identifier": f"test_{chapter}",
                                         "title": chapter})
    part = add(root, "testPart", identifier="part", navigationMode="nonlinear",
               submissionMode="individual")
    section = add(part, "assessmentSection", identifier="section", title=chapter, visible="true")
    for name in names:
        add(section, "assessmentItemRef", identifier=name, href=f"{name}.xml")
    return root


def manifest(resources: list[tuple[str, str, list[str]]]) -> ET.Element:
    """The list of the package: (identifier, kind, identifiers it needs) of each file."""
    root = ET.Element("manifest", {"xmlns": PACKAGE, "identifier": "questions"})
    about = add(root, "metadata")
    add(about, "schema", "QTIv2.1 Package"), add(about, "schemaversion", "1.0.0")
    add(root, "organizations")
    listed = add(root, "resources")
    for name, kind, needs in resources:
        entry = add(listed, "resource", identifier=f"r_{name}", type=f"imsqti_{kind}_xmlv2p1",
                    href=f"{name}.xml")
        add(entry, "file", href=f"{name}.xml")
        for other in needs:
            add(entry, "dependency", identifierref=f"r_{other}")
    return root


def qti(questions: list[dict], options) -> bytes:
    """The whole package as a zip; `options(question)` gives (option, feedback, right) in order."""
    files, resources = {}, []
    for question in questions:
        files[name_of(question)] = item(question, options(question))
        resources.append((name_of(question), "item", []))
    for chapter in dict.fromkeys(q["chapter"] for q in questions):
        names = [name_of(q) for q in questions if q["chapter"] == chapter]
        files[f"test_{chapter}"] = test(chapter, names)
        resources.append((f"test_{chapter}", "test", names))
    files["imsmanifest"] = manifest(resources)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, root in files.items():
            ET.indent(root)
            package.writestr(zipfile.ZipInfo(f"{name}.xml", DAY),
                             ET.tostring(root, encoding="UTF-8", xml_declaration=True))
    return out.getvalue()
