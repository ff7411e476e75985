"""Open book: a page of documentation in front of the question.

    # numpy.argsort(a, axis=-1)
    Returns the indices that would sort an array.

    # numpy.copy(a, order='K')
    Return an array copy of the given object.

    What does numpy.argsort do?

A page has one entry or two, in either order, and the answer is the sentence below the heading that
the question names. To find it a model has to look up a name that it may never have read, and to
copy what stands there: two things that it can do for any package, while remembering needs the
package. What SFT cannot teach, the context can.

The page is laid out for the tokenizer. A word behind a blank is another token than the same word at
the start of a line (" numpy" is not "numpy"; a rare word is even cut elsewhere), and a model that
copies tokens cannot know that they spell the same. So the sentence starts its line, as it will
start the answer, and the "# " of a heading puts a blank before the name, as the question does.
"""

import random
import re
from collections import defaultdict
from dataclasses import dataclass

from doc_entries import Entry, first_sentence

BLOCK = re.compile(r"(?:# )?([A-Za-z_][\w.]*)\(.*\)\n(?:    )?([^\s].*)")
LONGEST_HEADING, LONGEST_SENTENCE = 64, 100     # characters; longer ones make a batch as wide


@dataclass(frozen=True)
class PageEntry:
    """One entry of a page: its name, the heading (name and arguments), what is said of it."""
    name: str
    heading: str
    sentence: str

    @property
    def text(self) -> str:
        """The entry as it stands on a page."""
        return f"# {self.heading}\n{self.sentence}"


def page_entry(entry: Entry) -> PageEntry | None:
    """An entry of the documentation as one of a page: name, arguments, first sentence; None where
    it has no sentence, or one of them is too long. Long argument lists are cut to "(...)"."""
    name, sentence = entry.full_name, first_sentence(entry.doc)
    heading = f"{name}({entry.arguments})"
    if len(heading) > LONGEST_HEADING or "\n" in heading:
        heading = f"{name}(...)"
    good = sentence and len(sentence) <= LONGEST_SENTENCE and len(heading) <= LONGEST_HEADING
    return PageEntry(name, heading, sentence) if good else None


def with_page(question: str, asked: PageEntry, other: PageEntry | None,
              asked_first: bool) -> str:
    """The whole message: the page, a blank line, the question about `asked`."""
    entries = [asked] if other is None else [asked, other] if asked_first else [other, asked]
    return "\n\n".join([entry.text for entry in entries] + [question])


def split_page(message: str) -> tuple[dict[str, str], str]:
    """A message -> ({name: sentence} of its page, the question): the way back of `with_page`.

    A message without a page gives ({}, message). Headings without "# " and sentences behind four
    blanks, as pydoc prints them, are a page too.
    """
    *blocks, question = message.split("\n\n")
    entries = [BLOCK.fullmatch(block) for block in blocks]
    if not all(entries):
        return {}, message
    return {entry[1]: entry[2] for entry in entries}, question


def on_page(message: str) -> str:
    """The sentence that the page of a message says of the name that its question asks about; "" if
    there is no page, or the name is not on it.

    `on_page("# f(x)\\nSort x.\\n\\nWhat does f do?")` is "Sort x.".
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
            {"role": "user", "content": message}, {"role": "assistant", "content": page.sentence}]})
    return made
