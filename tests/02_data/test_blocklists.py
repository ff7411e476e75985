"""safety.names_in: the lines of blocklists as their own programs read them."""

import pytest

import safety


@pytest.mark.parametrize("line, names", [
    ("*.bad.example", ["bad.example"]), (".bad.example", ["bad.example"]),
    ("address=/bad.example/0.0.0.0", ["bad.example"]), ("server=/bad.example/", ["bad.example"]),
    ('local-zone: "bad.example" always_nxdomain', ["bad.example"]),
    ("bad.example CNAME .", ["bad.example"]), ("*.bad.example CNAME .", ["bad.example"]),
    ("DOMAIN-SUFFIX,bad.example,REJECT", ["bad.example"]), ("bad.example,games", ["bad.example"]),
    ("0.0.0.0 bad.example # why", ["bad.example"]), ("0.0.0.0 bad.example a.example",
                                                     ["a.example", "bad.example"]),
    ("\ufeffbad.example.", ["bad.example"]), ("@@||good.example^", []), ("; remark", []),
    ("bad.example##.ad", []), ("[Adblock Plus 2.0]", []), ("||bad.example^$third-party", []),
    ("||bad.example^$important", ["bad.example"]), ("||bad.example^$doc,popup", ["bad.example"]),
    ('zone "bad.example" { type master; };', ["bad.example"]), ("+.bad.example", ["bad.example"]),
    ("  - '+.bad.example'", ["bad.example"]), ("- bad.example", ["bad.example"]),
    ("domain:bad.example", ["bad.example"]), ("host-suffix, bad.example, reject", ["bad.example"]),
    ("bad.example:443", ["bad.example"]), ("2,bad.example", ["bad.example"]),
    ('"bad.example"', ["bad.example"]), ("0.0.0.0", []), ("255.255.255.255 broadcasthost", []),
    ("fe80::1%lo0 localhost", [])])
def test_lines_of_every_kind_of_blocklist(tmp_path, line, names):
    (tmp_path / "list").write_text(line + "\n", encoding="utf-8")
    assert sorted(safety.load_blocklist([tmp_path / "list"])) == names
