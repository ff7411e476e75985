"""E-mail addresses, phone numbers and IP addresses in a text are masked, and counted.

    mask_emails("write to ann@site.org")  ->  ("write to |||EMAIL_ADDRESS|||", 1)

A model learns by heart what it reads often; a person's address should not be among it. The masks
are those of Dolma and of Stanford's CS336. A mask holds nothing that could be masked again, so
masking twice changes nothing.

The policy is Dolma's: *mask few, drop many*. A page with up to five addresses is a page with a
contact line: mask them. A page with more is a directory of people: drop it (`too_personal`).
Patterns cannot find names or postal addresses; and a number that looks like a phone number but is
not costs a mask. Every pattern is bounded, so no text takes more than linear time.
"""

import ipaddress
import re

from writing_systems import ATTACHED, MARKS, signs_used

EMAIL, PHONE, IP = "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "|||IP_ADDRESS|||"
MOST = 5                  # masks that a page may have; with more it is dropped

# The last parts of addresses that are written in scripts without blanks.
OWN_DOMAINS = "中国|中國|公司|网络|网址|集团|香港|台灣|台湾|新加坡|みんな|한국|ไทย"
HYPHENS = "\u00a0\u2010-\u2013\u2212\uff0d-"      # printers write the hyphen in seven ways
GAP = rf"[ .()/（）{HYPHENS}]{{0,2}}"
# What a number goes on with: a case ending in Hindi or Georgian is put right behind it.
NEAR = r"[\dA-Za-z_\u00aa-\u024f]"
OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"


def make_patterns(letter: str) -> dict[str, re.Pattern]:
    """The patterns for each kind of address. `letter` matches what an address would go on with."""
    before, after = f"(?<!{NEAR})", rf"(?!(?!x\d{{1,5}}\b){NEAR})"    # "x5" is an extension
    start = rf"(?<!\d[.,])(?<!\+\d[ .-])(?<![=/#+$€£¥\-]){before}(?<!{NEAR}\()"
    stop = rf"{after}(?!-(?![^\W\d_A-Za-z\u00aa-\u024f])|\.\d)"
    return {
        # Tried only where a word starts, and at most 64 characters long (RFC 5321): linear in the
        # text. "logo@2x.png" is a picture for sharp screens.
        "email": re.compile(
            rf"(?<![+%])(?<!{letter})(?:{letter}|[+%])(?:{letter}|[.+%'-]){{0,63}}@(?!\dx\.)"
            rf"(?:(?:(?!_){letter}(?:(?:{letter}|-){{0,61}}(?!_){letter})?\.){{1,8}}"
            rf"(?:(?:xn--[a-z\d-]{{2,58}}|[A-Za-z]{{2,24}})(?!{NEAR}|@|-{{1,2}}{NEAR})"
            rf"|(?:(?![\d_]){letter}){{2,24}}(?!{letter}|@|-{letter}))"
            rf"|(?:[\w-]{{1,63}}\.){{1,4}}(?:{OWN_DOMAINS})(?![\w@.]))"),
        # (283)-182-3829, 283 182 3829, 283.182.3829, 1-283-182-3829 and 2831823829: North America.
        # The first look ahead is only for speed.
        "phone": re.compile(
            rf"(?=[(\d])(?:{start}(?:1[ .{HYPHENS}])?"
            rf"(?:\([2-9]\d{{2}}\)[ .{HYPHENS}]{{0,2}}\d{{3}}[ .{HYPHENS}]?\d{{4}}"
            rf"|[2-9]\d{{2}}([.{HYPHENS}])\d{{3}}\1\d{{4}}){stop}"
            # blanks only: not in a row of other numbers
            rf"|{start}(?<!\d )(?<!\[)(?:1 )?[2-9]\d{{2}} \d{{3}} \d{{4}}(?!,? ?\d){stop}"
            # no signs at all: not in a row of decimals, and no round number
            rf"|{start}(?<!\.)(?!\d{{4}}0{{6}})[2-9]\d{{9}}(?!,\d){stop})"),
        # +44 20 7946 0958: the rest of the world writes a plus sign; +1 is North America
        "world phone": re.compile(
            rf"(?=[+\uff0b])(?<![+=]){before}(?<!{NEAR}\()[+\uff0b]"
            rf"(?:1{GAP}[2-9](?:{GAP}\d){{9}}|[2-9](?:{GAP}\d){{7,14}}){after}(?!\.\d)"),
        # 020 7946 0958, 8 (495) 123-45-67, 01 23 45 67 89: as each country writes its own numbers;
        # only behind a word for telephone
        "named phone": re.compile(
            rf"(?=[(（\d])(?<![\d.,+]){before}(?!\d{{4}}-\d\d-\d\d)"
            rf"(?:(?:\d{{0,3}} ?[(（]\d{{1,5}}[)）]{GAP}\d(?:{GAP}\d){{4,11}}|\d(?:{GAP}\d){{6,13}})"
            rf"{after}(?!\.\d))"),
        "ipv4": re.compile(
            rf"(?=\d)(?<!\.){before}(?:{OCTET}\.){{3}}{OCTET}(?!{NEAR})(?!\.\d|-{NEAR})"),
        "ipv6": re.compile(
            rf"(?=[23])(?<!\.){before}(?<![:0-9A-Fa-f]:)[23][0-9A-Fa-f]{{3}}:[0-9A-Fa-f:]{{2,34}}"
            rf"(?!{NEAR})(?!:)")}


# Chinese, Thai or Korean stand right beside an address, without a blank: such a sign ends it. Texts
# without one take the plain patterns, which are ten times faster.
PLAIN, ATTACHING = make_patterns(r"\w"), make_patterns(rf"[^\W{ATTACHED}{MARKS}]")
_ATTACHED = re.compile(f"[{ATTACHED}]")


def patterns_for(text: str) -> dict[str, re.Pattern]:
    """PLAIN, or ATTACHING for a text that holds a script which stands beside addresses."""
    return ATTACHING if not text.isascii() and _ATTACHED.search(signs_used(text)) else PLAIN


# whole words: "no. 5", but not "piano 5" or "support: 5"
NUMBER_NAMES = re.compile(r"(?:\b(?:isbn(?:-1[03])?|issn|doi|pmid|arxiv|id|no|nr|version|port|sku|"
                          r"ean|upc|gtin|iban|serial)|#)\W{0,6}$", re.I)
# Every phone number is a row of seven digits: most pages have none, and need no slower pattern.
SEVEN_DIGITS = re.compile(rf"\d(?:[ .()/（）{HYPHENS}]{{0,3}}\d){{6}}")
# What a telephone is called: "Tel.:", "phone no. ", and where no blank stands between words.
PHONE_WORDS = """tel tél tlf tfno phone telephone téléphone telefon telefone telefono teléfono
    telefoon telepon telemóvel handy mobil mobile móvil celular cellulare cell puhelin puh fax
    telefax call whatsapp hotline telp ph тел телефон моб факс τηλ τηλέφωνο sđt đt thoại
    טל ტელ ტელეფონი հեռ ফোন মোবাইল தொலைபேசி""".split()
JOINED_WORDS = """电话 電話 手机 手機 传真 傳真 携帯 전화 휴대폰 팩스 โทร โทรศัพท์ มือถือ هاتف تلفون جوال فاكس
    טלפון נייד फोन फ़ोन मोबाइल""".split()
PHONE_NAMES = re.compile(
    rf"(?:(?<![^\W\d_])(?:{'|'.join(PHONE_WORDS)})|{'|'.join(JOINED_WORDS)})"
    r"(?:\W{0,2}(?:no|nr|number|nummer|番号|号码|號碼|번호|नंबर)(?![^\W\d_]))?"
    r"(?:\s(?:us|me|is|at|on)(?![^\W\d_])){0,2}\W{0,4}$", re.I)
# Powers of two, and neighbours, that have ten digits: not phone numbers, in any documentation.
CONSTANTS = frozenset(str(2 ** n + d) for n in (31, 32, 33) for d in (-1, 0, 1))
# What stands before a version: its name, with quotes or signs between, or "openresty/", "jdk-".
VERSION = re.compile(r"""(?:versions?|\b(?:release|build|firmware|oid|v|ver|section|chapter|rev|
                     revision|update|jdk|jre)|[=><~]=|§)[\s"'“:=(-]{0,3}$
                     |(?<![\w./:-])[A-Za-z][A-Za-z_+]*[/-]$""", re.I | re.X)
BACK = 24                 # characters before a number that may hold its name
# Addresses that reach nobody: this host, private networks, tests, examples in documentation (RFC
# 5737, RFC 3849), multicast.
NOBODY = tuple(map(ipaddress.ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/3", "2001:db8::/32", "3fff::/20")))


def mask_emails(text: str) -> tuple[str, int]:
    """Every e-mail address replaced by |||EMAIL_ADDRESS|||, and how many there were.

    "a@b.org, c.d+e@f.co.uk" -> ("|||EMAIL_ADDRESS|||, |||EMAIL_ADDRESS|||", 2). In a script without
    blanks the sentence stays: "写到a@b.org吧" -> "写到|||EMAIL_ADDRESS|||吧". A decorator
    (`@property`) or a product (`a@b.T`) is no address: a top-level domain has two letters or more.
    All that is in the pattern "email" of `patterns_for(text)`. A mask is a boundary: an address
    glued to another is found once that one is masked, so look again until nothing more is found
    ("a@b.org+c@d.org" gives 2 masks). A mask that was in the text does not count.
    """
    if "@" not in text:
        return text, 0
    pattern = patterns_for(text)["email"]
    text, count = pattern.subn(EMAIL, text)
    # A mask is a boundary that was not there before: an address glued to it is found only now.
    while "@" in text:
        text, more = pattern.subn(EMAIL, text)
        if not more:
            break
        count += more
    return text, count


def mask_phone_numbers(text: str) -> tuple[str, int]:
    """Every phone number replaced by |||PHONE_NUMBER|||, and how many there were.

    Elsewhere, 8 to 15 digits after a plus sign, of which nothing may stay; then North American
    numbers of ten digits, with or without signs between them, whose area code starts with 2 to 9,
    not inside longer numbers; then any number of 7 digits or more, if PHONE_NAMES finds a word for
    telephone in the BACK characters before it. These are the patterns "world phone", "phone" and
    "named phone" of `patterns_for(text)`. Spared are numbers that have no such word before them,
    but what NUMBER_NAMES finds there ("ISBN", "doi", "#" and the like), and those of CONSTANTS
    (2 ** 32). As in `mask_emails` a mask is a boundary: look again until nothing more is found.

        "call (283)-182-3829" -> ("call |||PHONE_NUMBER|||", 1)
    """
    if not SEVEN_DIGITS.search(text):
        return text, 0
    count = 0

    def mask(found: re.Match) -> str:
        nonlocal count
        # What stands before says what the number is.
        place = max(0, found.start() - BACK), found.start()
        named = PHONE_NAMES.search(text_now, *place)
        other = kind == "named phone" or NUMBER_NAMES.search(text_now, *place)
        if (other and not named) or found[0] in CONSTANTS:
            return found[0]
        count += 1
        return PHONE

    before, patterns = -1, patterns_for(text)
    while count != before:          # a mask is a new boundary: look again until nothing is found
        before = count
        for kind in ("world phone", "phone", "named phone"):
            text_now = text
            text = patterns[kind].sub(mask, text_now)
    return text, count


def mask_ip_addresses(text: str) -> tuple[str, int]:
    """Every IP address that could reach somebody replaced by |||IP_ADDRESS|||, and how many.

    Candidates are what the patterns "ipv4" and "ipv6" of `patterns_for(text)` find: four numbers
    that are not part of a longer row of numbers (".3.3.3.0" and "1.2.3.4.5" stay), and addresses of
    the public range 2000::/3. One colon at the end belongs to the sentence and stays, two are the
    address's own ("2a02:1::"). Spared is
    what is no address (a number over 255), what lies in a private or reserved network of NOBODY
    (10.0.0.1, 127.0.0.1, 192.0.2.7, 2001:db8::1), and a version: what VERSION finds in the BACK
    characters before it ("v1.2.3.4", 'version "1.2.3.4"', "server/1.2.3.4"). As in `mask_emails`
    a mask is a boundary: look again until nothing more is found ("8.8.8.8-8.8.4.4" gives 2).

        "from 8.8.8.8 to 10.0.0.1" -> ("from |||IP_ADDRESS||| to 10.0.0.1", 1)
    """
    count = 0

    def mask(found: re.Match) -> str:
        nonlocal count
        colon = found[0].endswith(":") and not found[0].endswith("::")  # two are the address's own
        # The pattern finds what has the form; the library knows what it means.
        try:
            address = ipaddress.ip_address(found[0][:-1] if colon else found[0])
        except ValueError:
            return found[0]
        if any(address in network for network in NOBODY):
            return found[0]
        if VERSION.search(text_now, max(0, found.start() - BACK), found.start()):
            return found[0]
        count += 1
        return IP + (":" if colon else "")

    before, patterns = -1, patterns_for(text)
    while count != before:          # a mask is a new boundary: look again until nothing is found
        before, text_now = count, text
        text = patterns["ipv4"].sub(mask, text_now) if "." in text_now else text_now
        if ":" in text:
            text_now = text
            text = patterns["ipv6"].sub(mask, text_now)
    return text, count


def mask_personal_data(text: str) -> tuple[str, dict[str, int]]:
    """All three masks, e-mail first (an address may hold digits), and the counts by kind.

    "a@b.org or 8.8.8.8" -> ("|||EMAIL_ADDRESS||| or |||IP_ADDRESS|||",
                             {"email": 1, "ip": 1, "phone": 0})
    """
    counts = {"email": 0, "ip": 0, "phone": 0}
    found = -1
    while sum(counts.values()) != found:
        found = sum(counts.values())
        for kind, mask in (("email", mask_emails), ("ip", mask_ip_addresses),
                           ("phone", mask_phone_numbers)):
            text, count = mask(text)
            counts[kind] += count
    return text, counts


def too_personal(counts: dict[str, int], most: int = MOST) -> str | None:
    """The reason to drop a page with these counts, None to keep it with its masks.

    {"email": 5} -> None, {"email": 4, "phone": 2} -> "personal data: 6 > 5"
    """
    total = sum(counts.values())
    return f"personal data: {total} > {most}" if total > most else None
