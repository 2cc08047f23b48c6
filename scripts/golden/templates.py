"""Conversations rendered with transformers' own Jinja environment, and the ids that follow.

Ids, and the segments they come from: the strings a caller supplies are copied with every control-token
text replaced by a stand-in character, the template is rendered with these, and the result is cut at the
control tokens that are left, which only the template can have written. The stand-ins are then turned back
into what the caller wrote, each stretch between two control tokens is encoded as plain text, as one piece,
and the control tokens contribute their ids.
"""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

from . import conversations
from .bpe import ReferenceTokenizer

CONTROL_TOKENS = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
# Letters (a Python repr prints them as they are, and no template strips them) that no test string holds.
STAND_INS = dict(zip(CONTROL_TOKENS, "\U00010900\U00010901\U00010902", strict=True))
VARIABLES = ("tools", "xml_tools", "python_tools", "enable_thinking")


def render(template: str, case: dict) -> str:
    """The text that `apply_chat_template(tokenize=False)` gives, on the case's date."""
    from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

    day = date.fromisoformat(case.get("date", conversations.DATE))
    # The date is the environment's one source of chance; transformers caches the compiled template by its text.
    noon = datetime(day.year, day.month, day.day, 12)
    _compile_jinja_template(template).globals["strftime_now"] = noon.strftime
    variables = {name: case[name] for name in VARIABLES if name in case}
    texts, _ = render_jinja_template(
        [case["messages"]],
        chat_template=template,
        add_generation_prompt=case["add_generation_prompt"],
        **variables,
    )
    return texts[0]


def segments(template: str, case: dict) -> list[dict]:
    """The rendering as [{"control": token} | {"text": plain text}], in order."""
    protected = {key: _replace(value, STAND_INS) for key, value in case.items()}
    pieces = re.split("(" + "|".join(map(re.escape, CONTROL_TOKENS)) + ")", render(template, protected))
    back = {stand_in: token for token, stand_in in STAND_INS.items()}
    return [
        {"control": piece} if piece in CONTROL_TOKENS else {"text": _replace(piece, back)} for piece in pieces if piece
    ]


def ids(parts: list[dict], tokenizer: ReferenceTokenizer) -> list[int]:
    encoded = []
    for part in parts:
        encoded += [CONTROL_TOKENS[part["control"]]] if "control" in part else tokenizer.plain(part["text"])
    return encoded


def rows(folder: Path, tokenizer: ReferenceTokenizer) -> list[dict]:
    """One row per case and template; `tokenizer` is SmolLM2's, which SmolLM v1 shares."""
    result = []
    for name, cases in conversations.CASES.items():
        template = (folder / f"{name}.jinja").read_text(encoding="utf-8")
        for case in cases:
            text = render(template, case)
            parts = segments(template, case)
            assert "".join(part.get("control") or part["text"] for part in parts) == text, case
            row = {"template": name, "date": conversations.DATE, **case, "text": text, "segments": parts}
            if name != "smollm3-3b":
                row["ids"] = ids(parts, tokenizer)
                if not any(token in str(case) for token in CONTROL_TOKENS):
                    assert row["ids"] == tokenizer.special(text), case
            result.append(row)
    return result


def _replace(value: Any, table: dict[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in table.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, dict):
        return {key: _replace(item, table) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, table) for item in value]
    return value
