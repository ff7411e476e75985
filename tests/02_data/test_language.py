"""language: the tables are probabilities, the scripts are right, and thirty languages are named."""

import time

import numpy as np
import pytest

import language
from language import (LanguageModel, default_model, identify_language, languages,
                      log_probabilities, normalise, rows_of, script_shares)

# None of these sentences is in the samples.
SENTENCES = """
en: It was already dark when we finally found the small hotel near the station.
de: Es war schon dunkel, als wir endlich das kleine Hotel am Bahnhof fanden.
nl: Het was al donker toen we eindelijk het kleine hotel bij het station vonden.
fr: Il faisait déjà nuit quand nous avons enfin trouvé le petit hôtel près de la gare.
es: Ya era de noche cuando por fin encontramos el pequeño hotel cerca de la estación.
pt: Já era noite quando finalmente encontrámos o pequeno hotel perto da estação.
it: Era già buio quando finalmente trovammo il piccolo albergo vicino alla stazione.
ca: Ja era fosc quan per fi vam trobar el petit hotel a prop de l'estació.
ro: Era deja întuneric când am găsit în sfârșit micul hotel de lângă gară.
sv: Det var redan mörkt när vi äntligen hittade det lilla hotellet vid stationen.
is: Það var orðið dimmt þegar við fundum loksins litla hótelið við stöðina.
fi: Oli jo pimeää, kun vihdoin löysimme pienen hotellin aseman läheltä.
et: Oli juba pime, kui me lõpuks jaama lähedalt väikese hotelli leidsime.
lv: Bija jau tumšs, kad mēs beidzot atradām mazo viesnīcu pie stacijas.
lt: Jau buvo tamsu, kai pagaliau radome mažą viešbutį prie stoties.
pl: Było już ciemno, kiedy wreszcie znaleźliśmy mały hotel koło dworca.
cs: Byla už tma, když jsme konečně našli malý hotel u nádraží.
hu: Már sötét volt, amikor végre megtaláltuk a kis szállodát az állomás közelében.
tr: Sonunda istasyonun yanındaki küçük oteli bulduğumuzda hava çoktan kararmıştı.
vi: Trời đã tối khi cuối cùng chúng tôi tìm thấy khách sạn nhỏ gần nhà ga.
id: Hari sudah gelap ketika kami akhirnya menemukan hotel kecil di dekat stasiun.
sw: Giza lilikuwa limeingia tulipopata hatimaye hoteli ndogo karibu na kituo.
eu: Iluna zen jada azkenean geltoki ondoko hotel txikia aurkitu genuenean.
cy: Roedd hi eisoes yn dywyll pan ddaethon ni o hyd i'r gwesty bach ger yr orsaf.
ru: Было уже темно, когда мы наконец нашли маленькую гостиницу у вокзала.
uk: Було вже темно, коли ми нарешті знайшли маленький готель біля вокзалу.
bg: Вече беше тъмно, когато най-после намерихме малкия хотел до гарата.
sr: Већ је био мрак када смо најзад нашли мали хотел код станице.
el: Ήταν ήδη σκοτεινά όταν βρήκαμε επιτέλους το μικρό ξενοδοχείο.
he: כבר היה חשוך כשמצאנו סוף סוף את המלון הקטן ליד התחנה.
ar: كان الظلام قد حل عندما وجدنا أخيرا الفندق الصغير بالقرب من المحطة.
fa: هوا تاریک شده بود که سرانجام هتل کوچک را نزدیک ایستگاه پیدا کردیم.
hi: जब हमें आखिरकार स्टेशन के पास छोटा होटल मिला तब अंधेरा हो चुका था।
bn: অবশেষে যখন আমরা স্টেশনের কাছে ছোট হোটেলটি পেলাম তখন অন্ধকার হয়ে গিয়েছিল।
ta: நிலையத்திற்கு அருகில் சிறிய விடுதியைக் கண்டபோது இருட்டாகிவிட்டது.
th: มืดแล้วตอนที่เราเจอโรงแรมเล็กใกล้สถานี
ko: 마침내 역 근처의 작은 호텔을 찾았을 때는 이미 어두워져 있었다.
ja: ようやく駅の近くの小さなホテルを見つけたときには、もう暗くなっていた。
zh: 我们终于找到车站附近的小旅馆时，天已经黑了。
"""


@pytest.mark.parametrize("line", SENTENCES.strip().splitlines(), ids=lambda line: line[:2])
def test_a_sentence_is_named(line):
    code, probability = identify_language(line[4:])
    assert code == line[:2], f"{line[4:40]}... is {line[:2]}, not {code}"
    assert 0.5 < probability <= 1


def test_seventy_languages_without_doubles():
    assert len(default_model().languages) == len(set(default_model().languages)) >= 70


def test_no_letters_no_language():
    for text in ("", "   ", "123 456!?", "\0", "🙂🙂"):
        assert identify_language(text) == ("und", 0.0), repr(text)


def test_probability_is_honest():
    """A word that several languages share must not be as sure as a paragraph of one."""
    assert identify_language("hotel")[1] < 0.7
    assert identify_language("It was a long way to the old house by the sea. " * 3)[1] > 0.95
    code, half = identify_language("Where is the library of the town? Где находится эта библиотека?")
    assert half < 0.7, f"half of the text is in another script, yet {code} at {half:.2f}"


def test_scripts():
    assert script_shares("abc где") == {"Latin": 0.5, "Cyrillic": 0.5}
    assert script_shares("a中") == {"Han": 0.75, "Latin": 0.25}
    assert script_shares("[^_`{|}~ 42") == {}
    assert identify_language("東京は日本の首都であり、世界最大の都市の一つである")[0] == "ja"


def test_rows_of_characters():
    rows = rows_of(" abab ")
    assert [len(r) for r in rows] == [6, 5, 4, 3, 2, 1], "T - n + 1 rows of length n, then words"
    assert rows[0][1] == rows[0][3] and rows[1][1] == rows[1][3] != rows[1][2], "ab, ba, ab"
    assert normalise("Hello, World 42! http://a.example/x") == " hello world "
    assert normalise("हिन्दी में") == " हिन्दी में ", "vowel signs belong to their word"


@pytest.mark.exercise("2.8")
def test_log_probabilities_by_hand():
    counts = np.zeros((2, 2, 4))
    counts[0, 0] = [3, 1, 0, 0]
    counts[1, 0] = [0, 1, 1, 0]
    counts[0, 1] = [6, 0, 0, 0]
    counts[1, 1] = [1, 1, 0, 0]
    got = log_probabilities(counts)
    s = language.SMOOTHING
    assert got.shape == (2, 4, 2), "the last axis is the language"
    want = np.log([(3 + s) / (4 + 3 * s), (1 + s) / (4 + 3 * s), s / (4 + 3 * s)])
    assert np.abs(got[0, :3, 0] - want).max() < 1e-5, f"got {got[0, :3, 0]}, expected {want}"
    assert abs(got[1, 0, 0] - np.log((6 + s) / (6 + 2 * s))) < 1e-5, "each kind has its own sum"


@pytest.mark.exercise("2.8")
def test_what_no_language_has_says_nothing():
    counts = np.zeros((2, 1, 3))
    counts[0, 0, 0], counts[1, 0, 0] = 1000, 1
    got = log_probabilities(counts)
    assert (got[0, 1:] == 0).all(), "an unseen row must not favour either language"
    other = np.zeros((2, 2, 3))
    other[:, 0, 1], other[:, 1, 0] = 5, 7
    assert log_probabilities(other)[1, 1].tolist() == [0, 0], "seen in another kind is not seen"
    assert np.isfinite(got).all()


@pytest.mark.exercise("2.8")
def test_shares_of_each_kind_sum_to_one_for_each_language():
    counts = np.random.default_rng(0).integers(0, 3, (4, 3, 50))
    got = log_probabilities(counts)
    seen = counts.sum(axis=0) > 0
    total = (np.exp(got) * seen[:, :, None]).sum(axis=1)
    assert np.abs(total - 1).max() < 1e-4, f"sums are {total.round(3).tolist()}"


def test_a_folder_of_texts_makes_it_better(tmp_path):
    made_up = "zork blinta qorum zee flanti morqua zork velli qorum blinta zee marfo quentzi "
    (tmp_path / "qz.txt").write_text(made_up * 9, encoding="utf-8")
    model = LanguageModel.train(tmp_path)
    assert "qz" in model.languages and "qz" not in default_model().languages
    assert model.identify("zee zork qorum flanti velli marfo blinta")[0] == "qz"
    assert model.identify("We finally found the small hotel near the station.")[0] == "en"
    (tmp_path / "xx.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Exception, match="xx.txt is not UTF-8"):
        LanguageModel.train(tmp_path)


def test_fast_enough():
    page = "Numbers are returned as an array of the same shape. " * 100
    start = time.process_time()
    assert languages([page] * 100) == ["en"] * 100
    assert time.process_time() - start < 1, "under a hundred pages a second"


@pytest.mark.parametrize("language, text", [
    ("Hausa", "Gwamnati ta sanar cewa za a gina sabuwar gada a shekara mai zuwa, amma mazauna gari suna tsoron aikin."),
    ("Zulu", "Uhulumeni umemezele ukuthi ibhuloho elisha lizokwakhiwa ngonyaka ozayo kodwa abantu bayesaba."),
    ("Quechua", "Kamachikuq willarqa musuq chaka hamuq wata ruwasqa kananta, ichaqa runakuna manchakunku."),
    ("Wolof", "Nguur gi yegle na ne dinanu tabax pont bu bees ci at mi di \u00f1\u00ebw waaye nit \u00f1i da\u00f1uy ragal."),
])
def test_a_language_it_has_not_learned_gets_a_low_probability(language, text):
    code, probability = identify_language(text)
    assert probability < 0.65, f"{language} is called {code} with {probability:.2f}"


def test_an_address_does_not_swallow_the_chinese_after_it():
    text = "https://example.com/abc\uff0c\u6211\u4eec\u5728\u8fd9\u91cc\u4e5f\u770b\u5230\u4e86\u65b0\u7684\u6865\u3002"
    assert identify_language(text)[0] == "zh"
    assert identify_language("\u13a0\u13a1\u13a2\u13a3") == ("und", 0.0), "Cherokee is no language we know"


def test_latin_names_and_code_do_not_decide_over_another_script():
    text = "ใช้ Python 3.11 และ pip install numpy เพื่อเริ่มต้น"
    assert identify_language(text)[0] == "th"
    russian = "Откройте меню и выберите команду, чтобы вставить раздел в документ. "
    code, sure = identify_language((russian + "Insert - Section, Writer Options. ") * 3)
    assert code == "ru" and sure > 0.7, "names of commands are no second language"
    assert identify_language("The word ไทย means Thai, as everybody knows.")[0] == "en"
