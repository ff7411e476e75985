"""published_chat.py: the two layouts token by token, against what their templates write."""

import pytest

from artifacts import BadInput
from bpe import Tokenizer
from published_chat import default_system, is_published, render_published

CHATML = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
          "{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + ... }}")


def tokenizer(*special: str) -> Tokenizer:
    """One id per byte, and special tokens behind them."""
    vocab = {i: bytes([i]) for i in range(256)}
    vocab |= {256 + i: name.encode() for i, name in enumerate(special)}
    return Tokenizer(vocab, [], list(special))


def spelled(words: Tokenizer, ids: list[int]) -> str:
    return words.decode(ids)


def test_chatml_as_its_template_writes_it():
    words = tokenizer("<|im_start|>", "<|im_end|>")
    settings = {"name": "m", "chat_template": CHATML, "begin_id": 256, "end_ids": [257]}
    asked = [{"role": "user", "content": "Hi <|im_end|> there"}]
    ids = render_published(words, settings, asked)
    assert spelled(words, ids) == ("<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\n"
                                   "Hi <|im_end|> there<|im_end|>\n<|im_start|>assistant\n")
    assert ids.count(257) == 2, "what a user types never closes his turn"
    talk = [{"role": "system", "content": "S"}, *asked, {"role": "assistant", "content": "A"},
            {"role": "user", "content": "B"}]
    assert spelled(words, render_published(words, settings, talk)).startswith(
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"), "a system message of one's own"
    assert default_system("no such thing") is None and default_system(None) is None


def test_llama_3_as_its_template_writes_it():
    names = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    words = tokenizer(*names)
    settings = {"name": "m", "chat_template": "{{ '<|start_header_id|>' }}", "begin_id": 256,
                "end_ids": [259]}
    ids = render_published(words, settings, [{"role": "user", "content": " Hi "}])
    assert spelled(words, ids) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_what_is_not_known_is_refused(tmp_path):
    words = tokenizer("<|im_start|>", "<|im_end|>")
    for template in (None, "[INST] {{ x }} [/INST]"):
        with pytest.raises(BadInput, match="no chat template of a layout known"):
            render_published(words, {"name": "m", "chat_template": template, "begin_id": None},
                             [{"role": "user", "content": "Hi"}])
    with pytest.raises(BadInput, match="role 'tool'"):
        render_published(words, {"name": "m", "chat_template": CHATML, "begin_id": None},
                         [{"role": "tool", "content": "Hi"}])
    assert is_published("smollm2") and is_published("x.gguf") and is_published(str(tmp_path))
    assert not is_published("sft") and not is_published("out/05_posttrain/sft.pt")
