"""Small fakes for chapter 5: a tokenizer with one id per character, and a tiny GPT."""

import pytest


class CharacterTokenizer:
    """One id per character (its code point, below 128), special tokens from 128 on."""
    special_tokens = {"<|endoftext|>": 128, "<|user|>": 129, "<|assistant|>": 130, "<|end|>": 131,
                      "<|pad|>": 132}
    vocab_size = 133
    vocab = {i: bytes([i]) for i in range(128)}

    def encode(self, text, allowed_special=()):
        """Special tokens written out become one id only where they are allowed, as in BPE."""
        for name, number in self.special_tokens.items():
            if allowed_special == "all" or name in allowed_special:
                text = text.replace(name, chr(number))
        return [ord(c) for c in text]

    def decode(self, ids):
        names = {number: name for name, number in self.special_tokens.items()}
        return "".join(names.get(i, chr(i)) for i in ids)


@pytest.fixture
def tokenizer():
    return CharacterTokenizer()


@pytest.fixture
def tiny_model():
    """A 2-layer GPT over the characters, no weight zero, in eval mode."""
    import torch
    from gpt import GPT, GPTConfig
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=133, sequence_length=64, layers=2, width=32, heads=4,
                          ngram_rows=512))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
