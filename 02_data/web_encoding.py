"""The bytes of a web page -> its characters.

    decode_html("caf\\u00e9".encode("latin-1"))   ->  "café"

A page says in up to three places how its characters were written down, and lies in each. Labels
mean what browsers take them to mean (WHATWG's Encoding Standard), not what they say: "latin-1" and
"ascii" are windows-1252, "gb2312" is gb18030.
"""

import codecs
import re

# WHATWG's labels where Python's codec of that name is another one (encoding.spec.whatwg.org).
BROWSER_NAMES = {
    **dict.fromkeys(("ascii", "us-ascii", "latin1", "latin-1", "iso-8859-1", "iso8859-1", "l1",
                     "iso_8859-1", "cp1252", "x-cp1252", "ansi_x3.4-1968", "x-user-defined",
                     "windows-1252"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "gb_2312-80", "gb_2312", "chinese", "x-gbk", "euc-cn",
                     "csgb2312", "iso-ir-58"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j",
                     "ms932", "csshiftjis"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601-1989", "ksc5601", "ksc_5601",
                     "korean", "windows-949", "cseuckr"), "cp949"),
    **dict.fromkeys(("big5", "big5-hkscs", "cn-big5", "x-x-big5", "csbig5"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-9", "iso8859-9", "latin5", "l5", "csisolatin5"), "cp1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620", "dos-874", "iso8859-11"), "cp874"),
    **dict.fromkeys(("iso-8859-8-i", "logical", "csiso88598i"), "iso8859-8"),
    **dict.fromkeys(("utf8", "unicode-1-1-utf-8", "x-unicode20utf8"), "utf-8"),
    **dict.fromkeys(("unicode", "utf-16", "ucs-2", "iso-10646-ucs-2", "csunicode"), "utf-16-le"),
    **dict.fromkeys(("macintosh", "mac", "x-mac-roman", "csmacintosh"), "mac-roman"),
    **dict.fromkeys(("iso_8859-1:1987", "csisolatin1", "iso-ir-100", "cp819", "ibm819"), "cp1252"),
    **dict.fromkeys(("koi8-r", "koi", "koi8", "cskoi8r"), "koi8-r"),
    **dict.fromkeys(("cseucpkdfmtjapanese", "euc-jp"), "euc-jp"), "iso-ir-149": "cp949",
    "x-mac-cyrillic": "mac-cyrillic", "x-euc-jp": "euc-jp", "windows-874": "cp874",
}
# Labels without their signs: "iso8859_1" and "Shift JIS" are meant for these too.
SQUEEZED = {re.sub(r"[\W_]", "", label): name for label, name in BROWSER_NAMES.items()}
CODE_PAGE = re.compile(r"(?:x|cp|win|windows|ms|ibm){1,3}(125\d|874|866|932|936|949|950)")
META = re.compile(rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I)
REMARK = re.compile(rb"<!--.*?-->", re.S)
XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,40})""", re.I)
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"))
WHOLE = 8                 # characters of UTF-8 that outweigh one bad byte
HIGH_BYTES = bytes(range(128, 256))
TEXT_CODECS = re.compile(r"utf|iso|cp\d|mac|koi|euc|gb|big5|hz|windows|johab|latin|ptcp|tis")


def codec_name(label: str) -> str | None:
    """The Python codec for a charset label as browsers read it; None if there is none.

    "ISO-8859-1" -> "cp1252", " GB2312 " -> "gb18030", "utf8" -> "utf-8", "rot13" -> None.
    """
    label = label.strip().strip("\"'").lower()
    name = BROWSER_NAMES.get(label)
    if name:
        return name
    squeezed = re.sub(r"[\W_]", "", label)
    if page := CODE_PAGE.fullmatch(squeezed):           # "win-1251"
        label = {"936": "gb18030", "950": "big5hkscs"}.get(page[1], "cp" + page[1])
    elif squeezed in SQUEEZED:
        return SQUEEZED[squeezed]
    try:
        found = codecs.lookup(label).name
    except (LookupError, ValueError, UnicodeError):
        return None
    # Python has codecs that are not character sets ("zip", "idna"): those no page may choose
    found = "utf-8" if found.startswith(("utf-32", "utf-7")) else found
    return found if TEXT_CODECS.match(found) else None


def declared_in_page(data: bytes) -> str | None:
    """The charset in a page's own <meta> (or XML) declaration, within its first 4,096 bytes.

    A page that declares UTF-16 in letters one can read is not UTF-16: it counts as UTF-8.
    """
    found = XML.search(data[:512]) or META.search(REMARK.sub(b"", data[:4096]))
    if not found:
        return None
    name = codec_name(found[1].decode("ascii", "replace"))
    return "utf-8" if name and name.startswith("utf-16") else name


def mostly_utf8(data: bytes) -> bool:
    """True if WHOLE or more characters of several bytes are whole for each byte that fits nowhere.

    A few bad bytes do not make a page of windows-1252, whose letters hardly ever stand so that they
    are valid UTF-8 by chance.
    """
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd") - data.count("\ufffd".encode())
    whole = len(text) - bad - len(data.translate(None, HIGH_BYTES))
    return whole >= WHOLE * bad


def decode_html(data: bytes, charset: str | None = None) -> str:
    """The text of a page. `charset` is what the server's header said. Never raises.

    In order: a byte-order mark of BOMS, which goes; UTF-8 if every byte fits (chance does not write
    valid UTF-8, and half of the wrong declarations are on UTF-8 pages), but for the end of a last
    character that is missing, if another one is whole, or for a bad byte among WHOLE or more
    characters of several bytes each (`mostly_utf8`); the header; the page's own declaration
    (`declared_in_page`); windows-1252. What is declared is what `codec_name` makes of it (latin-1
    is windows-1252 to a browser); nonsense counts as nothing, and hides no other declaration. One
    of 7-bit bytes (iso-2022-..., hz) or of UTF-16 goes before UTF-8, for which such bytes would
    pass; a declared UTF-8 stays UTF-8. Bytes that do not fit become U+FFFD, after a mark too.
    """
    # A mark at the start overrides everything.
    for mark, name in BOMS:
        if data.startswith(mark):
            return data[len(mark):].decode(name, "replace")
    # What the header says, else the page; nonsense in either counts as nothing.
    name = codec_name(charset) if charset else None
    name = name or declared_in_page(data)
    # Does it happen to be UTF-8? Encodings of 7-bit bytes would pass for it.
    seven_bit = name is not None and name.startswith(("iso2022", "hz", "utf-16"))
    if not seven_bit:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            # A page with a few bad bytes; or one of several such characters, cut in its last one.
            cut = error.reason == "unexpected end of data" and not data[:error.start].isascii()
            if name == "utf-8" or cut or mostly_utf8(data):
                return data.decode("utf-8", "replace")
    # The declared one, or what most undeclared old pages are.
    return data.decode(name or "cp1252", "replace")
