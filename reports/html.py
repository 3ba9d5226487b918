"""Building HTML so that nothing unescaped can get in: text is escaped unless it is ``Html``."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

VOID = frozenset({"meta", "input", "br", "hr", "img", "link", "col"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Text as markup; markup stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def el(name: str, /, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        name: tag name.
        children: markup, or text that is escaped; None is left out.
        attributes: ``class_`` for class, ``data_x`` for data-x; None or False leave the
            attribute out, True writes it without a value.
    """
    words = [name, *(_attribute(key, value) for key, value in attributes.items())]
    opened = " ".join(word for word in words if word)
    if name in VOID:
        return Html(f"<{opened}>")
    return Html(f"<{opened}>{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Markup of several parts; None is left out."""
    return Html(between.join(escape(part) for part in parts if part is not None))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return name
    return f'{name}="{html.escape(str(value), quote=True)}"'


def json_for_script(data: Any) -> Html:
    """JSON that may stand inside a ``<script>`` element.

    ``json.dumps`` leaves ``</script>`` and ``<!--`` as they are; both would end or reopen the
    element. ``<``, ``>``, ``&`` and the line separators of old JavaScript are written as escapes.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Html(text)


def data_block(name: str, data: Any) -> Html:
    """A JSON block that page.js reads by its id."""
    return el("script", json_for_script(data), type="application/json", id=name)


def table_html(columns: Iterable[str], rows: Iterable[Iterable[object]], caption: str) -> Html:
    """A plain table with a caption for screen readers; numbers are right-aligned by page.css."""
    written = [list(row) for row in rows]
    sample = written[0] if written else []
    head = el(
        "tr",
        *(
            el("th", column, scope="col", class_="num" if _is_number(value) else None)
            for column, value in zip_longest(columns, sample, fillvalue="")
        ),
    )
    body = (el("tr", *(_cell(value) for value in row)) for row in written)
    return el(
        "table",
        el("caption", caption, class_="hidden"),
        el("thead", head),
        el("tbody", *body),
    )


def _cell(value: object) -> Html:
    text = "" if value is None else value
    return el("td", text, class_="num" if _is_number(text) else None)


def _is_number(value: object) -> bool:
    return str(value)[:1] in set("0123456789-+±−–") and not isinstance(value, Html)
