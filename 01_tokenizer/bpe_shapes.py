"""What the tokenizer makes easy and hard: numbers, spelling, code, other languages.

    python 01_tokenizer/bpe_shapes.py                       a few seconds

The model behind a tokenizer sees ids and nothing else. This measures what that does before any
model is trained: what a sentence costs in another language, how many ways there are to write a
four-digit number, what one typing error costs. Reads out/01_tokenizer/tokenizer.json; writes
out/01_tokenizer/shapes.json and the claim bpe-shapes. Left out: the loss of a model by vocabulary
size, which 04_model_pretrain/vocabularies.py measures and adds to the claim.
"""

import random
from pathlib import Path
from typing import Iterable

from artifacts import CommandLine, command, out, record_claim, shown, write_json
from bpe import Tokenizer
from pretokenize import split

# One everyday sentence, ten times (our own translations).
SENTENCES = {
    "English": "My sister reads the newspaper every morning before she goes to work.",
    "German": "Meine Schwester liest jeden Morgen die Zeitung, bevor sie zur Arbeit geht.",
    "French": "Ma sœur lit le journal chaque matin avant d'aller au travail.",
    "Spanish": "Mi hermana lee el periódico cada mañana antes de ir al trabajo.",
    "Turkish": "Kız kardeşim her sabah işe gitmeden önce gazete okur.",
    "Russian": "Моя сестра читает газету каждое утро перед работой.",
    "Greek": "Η αδερφή μου διαβάζει την εφημερίδα κάθε πρωί πριν πάει στη δουλειά.",
    "Hindi": "मेरी बहन हर सुबह काम पर जाने से पहले अखबार पढ़ती है।",
    "Japanese": "姉は毎朝、仕事に行く前に新聞を読みます。",
    "Chinese": "我姐姐每天早上上班前都看报纸。",
}
WORDS = ("return function value array object number module string default argument example "
         "element method parameter result matrix index between second language").split()
CODE = ('def mean(values):\n    total = 0.0\n    for value in values:\n'
        '        if value is not None:\n            total += value\n'
        '    return total / max(len(values), 1)\n')


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--out", type=Path, default=out("01_tokenizer", "shapes.json"))
    args = parser.parse_args()
    report_shapes(Tokenizer.load(args.tokenizer), args.out)


def shrunk(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer that training would have given with a smaller vocabulary: its first merges.

    The special tokens stay; at most `vocab_size` ids, at least the bytes and the special tokens.
    """
    merges = tokenizer.merges[:max(0, vocab_size - 256 - len(tokenizer.special_tokens))]
    tokens = [bytes([b]) for b in range(256)] + [a + b for a, b in merges]
    return Tokenizer(dict(enumerate(tokens)), merges, list(tokenizer.special_tokens),
                     tokenizer.pattern)


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """UTF-8 bytes of the texts for each token they become: 1.0 for bytes, more is shorter."""
    texts = list(texts)
    tokens = sum(len(tokenizer.encode_to_numpy(text)) for text in texts)
    return sum(len(text.encode("utf-8", "replace")) for text in texts) / max(tokens, 1)


def number_shapes(tokenizer: Tokenizer) -> dict[str, float]:
    """The ways in which 1000 to 9999 are cut, as share of all: {"2+2": 0.6, "1+3": 0.1, ...}.

    With several ways, the digit for the hundreds is now a token's first character and now its last.
    """
    shapes = {}
    for number in range(1000, 10_000):
        parts = [len(tokenizer.vocab[i]) for i in tokenizer.encode(str(number))]
        shape = "+".join(map(str, parts))
        shapes[shape] = shapes.get(shape, 0) + 1 / 9000
    return dict(sorted(shapes.items(), key=lambda item: -item[1]))


def typing_error_cost(tokenizer: Tokenizer, seed: int = 0) -> float:
    """Tokens of common words with two neighbouring letters exchanged, over their tokens without."""
    rng, plain, wrong = random.Random(seed), 0, 0
    for word in WORDS:
        for _ in range(5):
            i = rng.randrange(1, len(word) - 1)
            typed = word[:i] + word[i + 1] + word[i] + word[i + 2:]
            plain += len(tokenizer.encode(" " + word))
            wrong += len(tokenizer.encode(" " + typed))
    return wrong / plain


def faces_of_a_word(tokenizer: Tokenizer) -> float:
    """How many token sequences a word has on average: `word`, ` word`, `Word`, ` Word`, `WORD`."""
    forms = [{tuple(tokenizer.encode(face)) for face in
              (word, " " + word, word.title(), " " + word.title(), word.upper())} for word in WORDS]
    return sum(map(len, forms)) / len(forms)


def shapes(tokenizer: Tokenizer) -> dict:
    """All measurements, by name; numbers that say how far a token is from a letter or a word."""
    english = len(tokenizer.encode(SENTENCES["English"]))
    indents = [piece for piece in split(CODE, tokenizer.pattern) if piece.isspace()]
    return {
        "tokens_of_a_sentence_over_english": {
            language: round(len(tokenizer.encode(text)) / english, 2)
            for language, text in SENTENCES.items()},
        "bytes_per_token_of_a_sentence": {
            language: round(bytes_per_token(tokenizer, [text]), 2)
            for language, text in SENTENCES.items()},
        "shapes_of_four_digit_numbers": {
            shape: round(share, 4) for shape, share in number_shapes(tokenizer).items()},
        "tokens_of_misspelt_over_right": round(typing_error_cost(tokenizer), 2),
        "token_sequences_of_one_word": round(faces_of_a_word(tokenizer), 2),
        "bytes_per_token_of_code": round(bytes_per_token(tokenizer, [CODE]), 2),
        "tokens_of_an_indent": round(sum(len(tokenizer.encode(piece)) for piece in indents)
                                     / len(indents), 2),
    }


def report_shapes(tokenizer: Tokenizer, path: Path) -> dict:
    """Measure, print, write `path`, and record the claim with a verdict from the numbers."""
    found = shapes(tokenizer)
    languages = found["tokens_of_a_sentence_over_english"]
    dearest = max(languages, key=languages.get)
    numbers = found["shapes_of_four_digit_numbers"]
    print(f"one sentence costs {languages[dearest]:.1f} times the English tokens in {dearest}; "
          f"four-digit numbers are cut in {len(numbers)} ways; a typing error makes a word "
          f"{found['tokens_of_misspelt_over_right']:.1f} times as long")
    # Four effects, each with the size that would leave no shape behind: 1.
    effects = [languages[dearest] >= 1.5, len(numbers) > 1,
               found["tokens_of_misspelt_over_right"] >= 1.5,
               found["token_sequences_of_one_word"] >= 2]
    verdict = "holds" if all(effects) else "holds in part" if any(effects) else "does not hold here"
    record_claim("bpe-shapes", measured="tokens of one sentence in ten languages over English, "
                 "ways to cut a four-digit number, cost of a typing error, faces of one word",
                 value={"dearest language": f"{dearest} {languages[dearest]}",
                        "ways to cut 1000-9999": len(numbers),
                        "misspelt over right": found["tokens_of_misspelt_over_right"],
                        "token sequences of one word": found["token_sequences_of_one_word"]},
                 expected="all clearly above 1: what a token is decides what is easy and what hard",
                 verdict=verdict, command="python 01_tokenizer/bpe_shapes.py", details=found)
    write_json(path, found)
    print(f"wrote {shown(path)}")
    return found


if __name__ == "__main__":
    command(main)
