"""Instruction files of other people: Alpaca, ShareGPT, TRL's prompt and completion, messages.

    conversations, skipped = load_instructions("alpaca_data.json")

Alpaca: [{"instruction": ..., "input": ..., "output": ...}, ...], 52,002 records in the published
file (Taori et al. 2023). ShareGPT: [{"conversations": [{"from": "human", "value": ...},
{"from": "gpt", "value": ...}, ...]}, ...]. TRL and others: {"prompt", "completion"} or
{"prompt", "response"}, as texts or as lists of messages; Dolly, OpenOrca and GSM8K name the same
two fields otherwise (`NAMES`). Ours: one {"messages": [...]} a line. Records stand one a line, in a
list, or in {"data": [...]}, gzipped or not. A system turn is dropped. A bad record is skipped,
counted by reason, and the first of each reason is named.
"""

import gzip
import json
import zlib
from pathlib import Path

from artifacts import BadInput, shown

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
            "chatgpt": "assistant"}


# One field under the names that published files give it, Alpaca's first.
NAMES = {"instruction": ("instruction", "question", "query"), "input": ("input", "context"),
         "output": ("output", "response", "answer")}


TABLES = ("csv", "tsv", "parquet", "arrow", "feather", "xlsx", "xls")
WRAPPERS = ("data", "train", "rows", "examples", "instances", "records")


def field_of(record: dict, field: str) -> str:
    """The text of a field under any of its names, "" if there is none."""
    value = next((record[name] for name in NAMES[field] if record.get(name)), "")
    return value.strip() if isinstance(value, str) else ""


def from_alpaca(record: dict) -> list[dict]:
    """One Alpaca record -> two messages; the input, if any, follows the instruction after a blank
    line. Raises ValueError that names the missing or empty field."""
    for field in ("instruction", "output"):
        if not field_of(record, field):
            raise ValueError(f"no {field}")
    asked = field_of(record, "instruction")
    if field_of(record, "input"):
        asked += "\n\n" + field_of(record, "input")
    return [{"role": "user", "content": asked},
            {"role": "assistant", "content": field_of(record, "output")}]


def from_sharegpt(record: dict) -> list[dict]:
    """One ShareGPT record -> messages. A system turn is dropped, and so is a question at the end
    that nobody answered. Raises ValueError for an unknown speaker, an empty or missing value, two
    turns of one speaker in a row, or nothing left."""
    messages = []
    for turn in record["conversations"]:
        speaker = turn.get("from")
        if speaker == "system":
            continue
        if speaker not in SPEAKERS:
            raise ValueError(f"unknown speaker {speaker!r}")
        if not isinstance(turn.get("value"), str) or not turn["value"].strip():
            raise ValueError("no value")
        messages.append({"role": SPEAKERS[speaker], "content": turn["value"].strip()})
    return checked(messages)


def from_prompt(record: dict) -> list[dict]:
    """{"prompt", "completion"} or {"prompt", "response"} -> messages; each side is a text or a list
    of messages. ValueError names what is missing."""
    said = record.get("completion", record.get("response"))
    if not record.get("prompt") or not said:
        raise ValueError("no prompt" if said else "no completion")
    sides = [[{"role": role, "content": side.strip()}] if isinstance(side, str) else side
             for role, side in (("user", record["prompt"]), ("assistant", said))]
    return checked(sides[0] + sides[1])


def conversation(record: dict) -> list[dict]:
    """The messages of one record of any known form; ValueError says what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    if "conversations" in record:
        turns = record["conversations"]     # some files write our messages under this name
        return checked(turns) if any("role" in turn for turn in turns) else from_sharegpt(record)
    if "messages" in record:
        return checked(record["messages"])
    if "prompt" in record:
        return from_prompt(record)
    return from_alpaca(record)


def checked(messages: list[dict]) -> list[dict]:
    """Messages that alternate user, assistant, ... and end with the assistant, or ValueError.
    A system message is dropped, and so is a question at the end that nobody answered."""
    messages = checked_turns(messages)
    return checked_turns(messages[:-1]) if messages[-1]["role"] == "user" else messages


def checked_turns(messages: list[dict]) -> list[dict]:
    """Messages that alternate, the user first, each with a text, or ValueError. A system message
    is dropped; a content in parts ({"type": "text", "text": ...}) becomes one text."""
    messages = [m | {"content": "".join(part["text"] for part in m["content"])}
                if isinstance(m.get("content"), list) and all("text" in p for p in m["content"])
                else m for m in messages if m.get("role") not in ("system", "developer")]
    for message in messages:
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise ValueError("no content")
    if not messages:
        raise ValueError("no answered turn")
    for i, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            raise ValueError(f"unknown role {message.get('role')!r}")
        if message["role"] != ("user", "assistant")[i % 2]:
            raise ValueError("turns do not alternate between user and assistant")
    return messages


def parse_json(text: str):
    """The value of a JSON text; ValueError also for one nested too deep or a number too long."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def open_text(path: Path) -> str:
    """The text of a file of records, gzip or not. BadInput for a table (.csv, .parquet, ...), with
    the way out; UnicodeDecodeError for bytes that are not UTF-8."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as why:
            raise BadInput(f"{shown(path)} is a damaged gzip file ({why})") from None
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind in TABLES or data[:4] == b"PAR1":
        raise BadInput(f"{shown(path)} is a table, not JSON: save its rows as one JSON object a "
                       "line, as pandas does with to_json(path, orient='records', lines=True)")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def as_one_value(text: str) -> list | None:
    """The records of a text that is ONE JSON value: a list, an object around a list ("data": [...],
    as SQuAD and many tools write it), or one record on several lines. None: one record a line.
    ValueError for a list that is damaged."""
    start = text.lstrip()[:1]
    if start not in ("[", "{"):
        return None
    try:
        value = parse_json(text)
    except ValueError:
        if start == "[":
            raise
        return None
    if isinstance(value, list):
        return value
    inner = next((value[name] for name in WRAPPERS if isinstance(value.get(name), list)
                  and all(isinstance(record, dict) for record in value[name])), None)
    return [value] if inner is None else inner


def read_records(path: Path) -> list:
    """The records of a .json list or a .jsonl file; a line that is no JSON is None. BadInput names
    a file that is not UTF-8, or a list that is damaged."""
    try:
        text = open_text(path)
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)} is not UTF-8 ({error.reason} at byte {error.start}): "
                       "convert it first") from None
    try:
        records = as_one_value(text)
    except ValueError as error:
        raise BadInput(f"{shown(path)} is no JSON list ({error}): give an Alpaca, ShareGPT or "
                       "messages file") from None
    if records is not None:
        return records
    records = []
    for line in filter(str.strip, text.split("\n")):
        try:
            records.append(parse_json(line))
        except ValueError:
            records.append(None)
    return records


def load_instructions(path: Path | str) -> tuple[list[list[dict]], dict[str, list]]:
    """A file of any of these forms -> (conversations, skipped).

    skipped: {reason: [count, number of the first such record]}, records counted from 0. BadInput
    if the file is missing, not UTF-8, a damaged list, or holds no usable record at all.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{shown(path)} is missing: give an Alpaca, ShareGPT or messages file")
    conversations, skipped = [], {}
    for number, record in enumerate(read_records(path)):
        try:
            messages = conversation(record)
            # Half of an emoji, "\\ud83d" alone, passes for JSON and cannot be written as UTF-8.
            "".join(m["content"] for m in messages).encode()
            conversations.append(messages)
        except UnicodeEncodeError:
            skipped.setdefault("half a character (lone surrogate)", [0, number])[0] += 1
        except ValueError as error:
            skipped.setdefault(str(error), [0, number])[0] += 1
        except (AttributeError, TypeError):
            skipped.setdefault("a field has the wrong type", [0, number])[0] += 1
    if not conversations:
        raise BadInput(f"{shown(path)} holds no usable record (skipped: {skipped or 'none'})")
    return conversations, skipped
