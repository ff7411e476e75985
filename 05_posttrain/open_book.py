"""Open book: a page of documentation in front of the question.

    # numpy.argsort: Returns the indices that would sort an array.

    # numpy.copy: Return an array copy of the given object.

    What does numpy.argsort do?
    > From the page, numpy.argsort: Returns the indices that would sort an array.

A page has one entry or two, in either order, and the question names one of them. To answer, a model
has to find a name that it may never have read, and to copy what stands there: two things that it
can do for any package, while remembering needs the package. What SFT cannot teach, the context can.

The page is laid out for what a small transformer does best: look where these tokens stood before,
and say what came next (induction heads, chapter 4). So the answer names the entry first, and the
sentence follows the name on the page as in the answer: naming it IS finding it. With the sentence
alone as the answer, and a heading "# name(arguments)" on a line of its own, the same model in the
same updates copied well and hardly found: of two entries it took the asked one in .55 of the
answers, the other in .41; so .82 and .06 (`MEASURED.md`).
And for the tokenizer: a word behind a blank is another token than the same word at the start of a
line (" numpy" is not "numpy"), and a model that copies tokens cannot know that they spell the same.
So a blank stands before the name on the page, in the question and in the answer.
"""

import random
import re
from collections import defaultdict
from dataclasses import dataclass

from doc_entries import Entry, first_sentence

BLOCK = re.compile(r"(?:# )?([A-Za-z_][\w.]*)(?:: |\(.*\)\n(?:    )?)([^\s].*)")
ANSWER = re.compile(r"From the page, [\w.]+(?:: |$)")
LONGEST_NAME, LONGEST_SENTENCE = 64, 100        # characters; longer ones make a batch as wide


@dataclass(frozen=True)
class PageEntry:
    """One entry of a page: its name, and what is said of it."""
    name: str
    sentence: str

    @property
    def text(self) -> str:
        """The entry as it stands on a page."""
        return f"# {self.name}: {self.sentence}"

    @property
    def answer(self) -> str:
        """The answer to a question about it, with its page in front."""
        return f"From the page, {self.name}: {self.sentence}"


def page_entry(entry: Entry) -> PageEntry | None:
    """An entry of the documentation as one of a page: its name and first sentence; None where it
    has no sentence, or one of the two is too long."""
    name, sentence = entry.full_name, first_sentence(entry.doc)
    good = sentence and len(sentence) <= LONGEST_SENTENCE and len(name) <= LONGEST_NAME
    return PageEntry(name, sentence) if good else None


def sentence_of(answer: str) -> str:
    """What an answer says of its entry: without "From the page, NAME: " before it, if that is
    there. "From the page, a.b." says nothing."""
    return ANSWER.sub("", answer, count=1) if ANSWER.match(answer) else answer


def with_page(question: str, asked: PageEntry, other: PageEntry | None,
              asked_first: bool) -> str:
    """The whole message: the page, a blank line, the question about `asked`."""
    entries = [asked] if other is None else [asked, other] if asked_first else [other, asked]
    return "\n\n".join([entry.text for entry in entries] + [question])


def split_page(message: str) -> tuple[dict[str, str], str]:
    """A message -> ({name: sentence} of its page, the question): the way back of `with_page`.

    A message without a page gives ({}, message). Entries as pydoc prints them, the name with its
    arguments and below it, behind four blanks, the sentence, are a page too.
    """
    *blocks, question = message.split("\n\n")
    entries = [BLOCK.fullmatch(block) for block in blocks]
    if not all(entries):
        return {}, message
    return {entry[1]: entry[2] for entry in entries}, question


def on_page(message: str) -> str:
    """The sentence that the page of a message says of the name that its question asks about; "" if
    there is no page, or the name is not on it.

    `on_page("# f: Sort x.\\n\\nWhat does f do?")` is "Sort x.".
    """
    page, question = split_page(message)
    words = re.findall(r"[A-Za-z_][\w.]*\w|[A-Za-z_]", question)
    return next((page[word] for word in words if word in page), "")


def token_f1(said: str, wanted: str) -> float:
    """How much two sentences share: the harmonic mean of precision and recall over their words,
    each word as often as it comes, case and punctuation aside. Equal ones give 1, and two empty
    ones too. "sort the array" against "sort an array" -> 2/3. Source: SQuAD's F1."""
    mine, theirs = (re.findall(r"\w+", text.lower()) for text in (said, wanted))
    if not mine or not theirs:
        return float(mine == theirs)
    left, shared = list(theirs), 0
    for word in mine:
        if word in left:
            left.remove(word)
            shared += 1
    return 2 * shared / (len(mine) + len(theirs))


def opened(pairs: list[dict], rng: random.Random, single: float = 0.2) -> list[dict]:
    """The questions "What does X do?" again, kind "open", each with its page in front: those whose
    entry fits one, in order, each page once.

    pairs: {"messages", "page", "package", ...}, page a PageEntry or None. The other entry of a page
    is another pair's, drawn by `rng`, half of them of the same package, so that the names differ in
    their last part only; a share `single` of the pages has no other.
    """
    fitting = [pair for pair in pairs if pair.get("page")]
    pages, made = defaultdict(list), []
    for pair in fitting:
        pages[pair["package"]].append(pair["page"])
        pages[None].append(pair["page"])        # of any package
    for pair in fitting:
        page = pair["page"]
        other = rng.choice(pages[pair["package"] if rng.random() < 0.5 else None])
        if other.name == page.name or rng.random() < single:
            other = None
        message = with_page(pair["messages"][0]["content"], page, other, rng.random() < 0.5)
        made.append(pair | {"kind": "open", "messages": [
            {"role": "user", "content": message}, {"role": "assistant", "content": page.answer}]})
    return made
