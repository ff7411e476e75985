"""writing_systems.py: words and sentences in every script, and fair pages through all the rules."""

import random
from pathlib import Path

import pytest

import writing_systems as ws
from page_steps import Settings
from pipeline import run_steps

PAGES = dict(line.split("\t") for line in Path(__file__).with_name("fair_pages.tsv").read_text(
    encoding="utf-8").splitlines())
ENDS = {"th": " ", "zh": "。", "ja": "。", "hi": "।"}


@pytest.mark.parametrize("text, words", [
    ("The cat sat.", ["The", "cat", "sat."]), ("", []), ("  \n", []),
    ("猫坐在垫子上。", ["猫坐", "在垫", "子上。"]), ("Hello, 你好吗？ ok", ["Hello,", "你好", "吗？", "ok"]),
    ("ภาษาไทย", ["ภาษา", "ไทย"]), ("コンピューターです", ["コンピューター", "です"]),
    ("猫が座っています。", ["猫が", "座って", "います。"]),
    ("हम घर में हैं।", ["हम", "घर", "में", "हैं।"]), ("한국어 책을", ["한국어", "책을"]),
    ("مرحبا بكم", ["مرحبا", "بكم"])])
def test_words_by_script(text, words):
    assert ws.words_of(text) == words
    assert "".join(ws.words_of(text)) == "".join(text.split()), "no sign is lost or doubled"


def test_a_repeated_sentence_is_cut_alike():
    sentence = "今天天气很好。"
    once = ws.words_of(sentence)
    assert ws.words_of("昨天下雨了。" + sentence + "好。" + sentence)[-len(once):] == once


@pytest.mark.parametrize("text, count", [
    ("One. Two! Three?", 3), ("3.14 is no end", 0), ("猫坐着。狗也坐着！", 2), ("हम घर गए। वे आए।", 2),
    ("هل جئت؟ نعم۔", 2), ("", 0), ('He said "no."', 1), ("မင်္ဂလာပါ။", 1), ("ሰላም። ደህና", 1),
    ("ตลาดตอนเช้าเต็มไปด้วยผู้คนที่มาซื้อของ และชายชราที่ขายปลากำลังคุยกับเพื่อนบ้าน", 2)])
def test_sentence_ends_by_script(text, count):
    assert ws.sentence_ends(text) == count, text


@pytest.mark.parametrize("text, count", [
    ("Dr. Smith met Mr. Jones at St. Mary's.", 1), ("J. S. Bach wrote it. It is good.", 2),
    ("See e.g. the list, i.e. all of it.", 1), ("Das ist z. B. gut, d. h. sehr gut.", 1),
    ("Он жил в XIX в. и умер в 1870 г. в Москве.", 1), ("El Sr. García y la Sra. López vinieron.", 1),
    ("M. Dupont est venu, cf. p. 12 du livre.", 1), ("No. 5 is alive. He said no. Then he left.", 3),
    ("the U.S. Army came at 5 p.m. today.", 1), ("Inc. and Ltd. are companies, etc. and so on.", 1),
    ("Τι κάνεις; Καλά.", 2), ("x = 1; y = 2.", 1), ("ខ្ញុំសុខសប្បាយ។ អរគុណ៕", 2), ("你好．再见．", 2), ("ｱﾘｶﾞﾄｳ｡ｻﾖﾅﾗ｡", 2),
    ("He got 5. She got 6.", 2), ("It ended. Then it began.", 2)])
def test_an_abbreviation_ends_no_sentence(text, count):
    assert ws.sentence_ends(text) == count, text


def test_western_signs_need_no_table():
    signs = "".join(bytes([code]).decode("cp1252", "ignore") for code in range(128, 256))
    assert ws.is_western(signs) and not ws.is_western("a猫") and not ws.is_western("ř")
    assert not (ws._ANY_UNSPACED.search(signs) or ws._OWN_END.search(signs)
                or any(heavy.search(signs) for heavy in ws._HEAVY.values()))


def test_letters_and_line_ends():
    assert ws.letters_in("猫a") == 4 and ws.letters_in("abc") == 3 and ws.letters_in("가나") == 4
    for line in ("The end.", "他说：“好。”", "終わり。」", "हम घर गए।", "هل جئت؟",
                 "„Ende.“", "« Fin. »", "Τι κάνεις;", "wait…", "wait..."):
        assert ws.ends_sentence(line), line
    for line in ("", "Home", "首页", "목록", "Read more:", "x;", "好～"):
        assert not ws.ends_sentence(line), line


def test_the_table_is_what_the_command_makes():
    made = ws.make_table()
    for key, ranges in ws.read_table().items():
        # a newer Python knows more characters
        codes = {c for a, b in made[key] for c in range(a, b + 1)}
        assert {a for a, _ in ranges} <= codes, key


def sentences_of(language):
    end = ENDS.get(language, ". ")
    return [s.strip() + end.rstrip() for s in PAGES[language].split(end.strip() or end) if s.strip()]


def run(text, language):
    page = {"url": "https://a.example/x", "kind": "text", "body": text.encode(), "charset": None}
    counters = {}
    kept = run_steps(page, "pages", Settings(languages=(language,)), counters)
    return kept, {k: list(c["reasons"]) for k, c in counters.items() if c["reasons"]}


@pytest.mark.parametrize("language", PAGES)
def test_a_fair_page_is_kept_in_each_language(language):
    joiner = " " if ENDS.get(language, ". ").endswith(" ") else ""
    for seed in range(5):
        sentences = sentences_of(language)
        random.Random(seed).shuffle(sentences)
        cut = len(sentences) // 3
        text = "\n\n".join(joiner.join(sentences[i:i + cut])
                           for i in range(0, len(sentences), cut))
        kept, reasons = run(text, language)
        assert kept, f"{language}: a fair page is dropped: {reasons}"


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("kind", ["one sentence again and again", "a menu", "too short",
                                  "another language", "keywords", "a list of numbers"])
def test_a_bad_page_is_dropped_in_each_language(language, kind):
    sentences = sentences_of(language)
    words = ws.words_of(PAGES[language])
    bad = {"one sentence again and again": "\n".join(sentences[:1] * 20),
           "a menu": "\n".join("".join(w.strip("。，.,।،") for w in words[i:i + 2])
                               for i in range(0, 160, 2)),
           "too short": sentences[0],
           "another language": PAGES["de" if language != "de" else "ru"],
           "keywords": ", ".join(sorted({w.strip("。，.,।،") for w in words}, key=len)[-12:] * 9),
           "a list of numbers": "\n".join(f"{sentences[i % 9][:8]} {i * 7919} {i * 104729}"
                                          for i in range(60))}[kind]
    kept, _ = run(bad, language)
    assert not kept, f"{language}: {kind} is kept: {bad[:80]!r}"
