"""What every exported model is asked: ordinary texts, odd ones, and rows whose answers are known.

The texts are a module and not a data file, so that the gate runs again when they change. All of them were written
for this project.
"""

from dataclasses import dataclass

import numpy as np

from components.evaluation.predictions import Predictions

GOLDEN = {
    "a headline of the world": "Ministers sign a border treaty after a night of talks in the capital",
    "a headline of sports": "Late penalty sends the league leaders out of the cup Coach blames a tired defence",
    "a headline of business": "Shares of the grocer jump 12% as profit beats forecasts; the bank raises its outlook",
    "a headline of science": "Engineers teach a small robot to map caves without a map, a compass or a signal",
    "two words": "Rain again",
}
"""Name to text."""
ODD = {
    "the empty text": "",
    "white space only": " \t\n  ",
    "emoji only": "\U0001f389\U0001f525 \U0001f469\u200d\U0001f680 \U0001f3f3\ufe0f\u200d\U0001f308",
    "Chinese": "央行宣布加息 股市应声下跌。",
    "Japanese": "日本代表が延長戦で勝利、来月の決勝へ",
    "Korean": "새 휴대전화 칩, 배터리 수명 두 배로",
    "Arabic": "الوزراء يوقعون اتفاقا جديدا بعد محادثات طويلة",
    "Hebrew": "הבנק המרכזי העלה את הריבית ברבע אחוז",
    "left in right": "\u202eabc \u2067הבנק shares\u2069 123\u202c",
    "HTML entities": "Bank #39;s &lt;b&gt;profit&lt;/b&gt; &amp;amp; quot;up&nbsp;&#8217;9quot; &#x1F600; &#0;",
    "one token 10,000 times": "goal " * 10_000,
    "one word of 10,000 letters": "profitable" * 1_000,
    "zero-width characters only": "\u200b\u200c\u200d\u2060\ufeff" * 20,
    "zero-width characters in words": "The\u200b mar\u00adket fell\ufeff, then ro\u2060se",
    "500 marks on one letter": "e" + "\u0301" * 500,
    "a very long text": "The parliament voted, the coach resigned, the chip overheated and the market closed. " * 1_200,
    "a NUL byte": "Shares\x00 fall\x00",
    "control characters": "\x01\x02\x1b[31m alarm \x07\x7f\x85",
    "line breaks": "First line\r\nsecond line\\third line\u2028fourth line",
    "punctuation only": "?!... --- ((( ))) \"\" '' $$$ %%% \\\\\\",
    "numbers only": "3.14 1,000,000 007 -42 1e309 0x1F",
    "outside the basic plane": "\U0001d54f\U0001d55d \U00020000\U0002a6df \U000e0041",
}
"""Name to text. The REST server refuses the longest of them before they reach a model; a batch job does not."""
EVALUATED_ROWS = 64
"""Rows of the test split that are asked again."""


@dataclass(frozen=True)
class Request:
    """A text to ask, what to call it, and its row of the test split if it is one."""

    name: str
    text: bytes
    row: int | None = None


def make_requests(answers: Predictions) -> list[Request]:
    """Returns the golden texts, the odd ones, and ``EVALUATED_ROWS`` rows spread over the test split."""
    rows = np.unique(np.linspace(0, len(answers.texts) - 1, EVALUATED_ROWS).round().astype(int)).tolist()
    return [
        *(Request(name, text.encode()) for name, text in (GOLDEN | ODD).items()),
        *(Request(f"row {row} of the test split", answers.texts[row], row) for row in rows),
    ]
