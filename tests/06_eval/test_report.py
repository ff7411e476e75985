"""The report never fails on a missing or damaged piece, carries everything, and escapes all."""

import json
import re

import pytest

import artifacts
from claims_ledger import CLAIMS, OPEN, read_ledger, tally
from page_parts import escape, number, table, tree
from report import SECTIONS, build_report
from svg_figures import Series, interval_chart, line_chart, log_ticks, nice_ticks, tick_label


def test_a_report_from_nothing(tmp_path):
    page = build_report(tmp_path)
    for anchor, _, title, _ in SECTIONS:
        assert f'id="{anchor}"' in page
    assert page.count("not yet measured") > len(CLAIMS), "every claim is there, unmeasured"
    assert "cannot be shown" not in page


def test_the_page_is_self_contained_and_portable(tmp_path):
    page = build_report(tmp_path)
    assert not re.search(r'(src|href)="https?:', page) and "@import" not in page
    assert "<script" not in page and "prefers-color-scheme: dark" in page and "viewport" in page


@pytest.mark.parametrize("name, content", [
    ("02_data/funnel.json", "{"), ("02_data/funnel.json", '{"steps": [{}]}'),
    ("03_scaling/plan.json", "[]"), ("03_scaling/runs.csv", "family\ngpt\n"),
    ("04_model_pretrain/log.jsonl", '{"step": 1}\n{'), ("04_model_pretrain/result.json", "7"),
    ("06_eval/results.json", "{}"), ("07_systems/memory.json", "null"),
    ("07_systems/memory.json", '{"a": [1, {"b": 2}], "c": {"d": {"e": {"f": {"g": 1}}}}}'),
    ("claims/moe.json", "{}"), ("claims/moe.json", '{"verdict": "surely"}'),
    ("claims/moe.json", "[]"), ("01_tokenizer/tokenizer.json", "x")])
def test_a_damaged_piece_costs_its_own_section_only(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    page = build_report(tmp_path)
    assert page.count("cannot be shown") <= 2, "one damaged file took more than its own section"
    assert page.rstrip().endswith("</html>") and page.count("<section") == len(SECTIONS)


def test_the_page_opens_with_an_answer_that_came_out_right(tmp_path):
    cell = {"exact": 0.61, "interval": [0.5, 0.7], "f1": 0.8, "questions": 9}
    shown = [{"kind": kind, "question": f"# f: Sort <{i}>.\n\nWhat does f{i} do?", "answer": f"A{i}.",
              "right": right, "answers": {"base": "class", "sft": f"A{i}.", "ppo": "B."}}
             for i, (kind, right) in enumerate([("kind", True), ("open", False), ("open", True)])]
    path = tmp_path / "05_posttrain" / "answers.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"kinds": {"open": "What?"}, "examples": shown, "models": {
        "base": {}, "sft": {"open": cell}, "ppo": {"open": cell}}}), encoding="utf-8")
    top = build_report(tmp_path).partition("<main>")[0]
    assert "What does f2 do?" in top and "Sort &lt;2&gt;" in top and "One of the 61%" in top
    assert "f1 do" not in top and "f0 do" not in top and 'href="#answers"' in top
    for example in shown:
        example["right"] = False
    path.write_text(json.dumps({"kinds": {}, "examples": shown, "models": {}}), encoding="utf-8")
    assert "What does f" not in build_report(tmp_path).partition("<main>")[0], "a wrong one"


def test_verdicts_come_from_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    artifacts.record_claim("moe", measured="<b>x</b> & y", value=1, expected="z", verdict="holds",
                           command="python x.py")
    ledger = read_ledger(tmp_path / "claims")
    assert {c.id: c.verdict for c in ledger}["moe"] == "holds"
    assert tally(ledger)["holds"] == 1 and tally(ledger)[OPEN] == len(CLAIMS) - 1
    page = build_report(tmp_path)
    assert "&lt;b&gt;x&lt;/b&gt; &amp; y" in page and "<b>x</b>" not in page


def test_values_and_intervals_are_shown():
    from report_claims import is_told, value_text
    assert value_text(0.25, (0.1, 0.4)) == "0.25 (0.1 to 0.4)"
    assert value_text({"a": 1, "b": {"x_y": 2.5}}, None) == "a 1, b x y 2.5"
    assert "<" not in value_text({"<i>": [1, "<b>"]}, None), "a value's names are text too"
    assert value_text(-0.05, (2.9, 3.4)) == "-0.050"[:5], "that interval is of another number"
    assert value_text({"a": 12.0, "b": 100.0}, None) == "a 12, b 100"
    assert value_text(None, None) == "" and value_text(0, None) == "0"
    assert is_told(0.0744, "a difference of 0.074") and is_told(3.16e11, "3.16e+11 parameters")
    assert not is_told(0.6125, "one run, 200 questions") and not is_told({"a": 1}, "a 1")


def test_hostile_text_stays_text():
    assert escape('<script>"\x00\x1b') == "&lt;script&gt;&quot;\u2400\u241b"
    hostile = [{"<img src=x>": "<script>"}]
    assert "<script>" not in tree(hostile) and "<img" not in tree(hostile)
    assert "<i>" not in table(["<i>"], [["<i>", "<i>"]])


def test_numbers_for_reading():
    assert [number(v) for v in (1234567, 0.12345, None, float("nan"), 2.5e-7, True, 12345.6)] == [
        "1,234,567", "0.123", "–", "–", "2.5·10⁻⁷", "True", "12,346"]
    assert [number(v) for v in (316_369_222_755, 48_679_495_925_760.0, 1.034e25, -6.5e-4, 0, 0.0)] \
        == ["316 billion", "48.7 trillion", "1.03·10²⁵", "-6.5·10⁻⁴", "0", "0.000"]


def test_ticks():
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(3.2, 3.2) == [3.2]
    assert log_ticks(1, 1e6)[0] == 1 and 1e6 in log_ticks(1, 1e6)
    assert log_ticks(30, 200) == [50, 100, 200], "under three powers of ten: 1, 2 and 5 as well"
    assert [tick_label(v) for v in (0, 1500, 1.5e6, 1e15, 3e-5, 0.25)] == [
        "0", "1500", "1.5M", "10¹⁵", "3·10⁻⁵", "0.25"]


def test_figures_draw_what_they_are_given():
    nan, inf = float("nan"), float("inf")
    svg = line_chart([Series("a", [(1, 2.0), (10, 3.0), (0, 1.0), (5, nan), (7, inf)])], "x", "y",
                     log_x=True, band=(1.5, 2.5, "b<"), marks=[(4, 2, 1.8, 2.2, "m")])
    assert "nan" not in svg and "inf" not in svg and "b&lt;" in svg
    assert svg.count("L") >= 1 and line_chart([Series("a", [(0, 1)])], "x", "y", log_x=True) == ""
    rows = interval_chart([("<m>", 1000.0, 900.0, 1100.0)], "rating")
    assert "&lt;m&gt;" in rows and interval_chart([], "x") == ""


def test_every_claim_of_the_ledger_names_its_command():
    assert len(CLAIMS) == 30
    assert all((artifacts.ROOT / made_by.split()[0]).is_file() for _, made_by in CLAIMS.values())
    assert json.dumps(list(CLAIMS)).count('"') == 60
