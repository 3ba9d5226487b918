import json

from reports.html import Html, el, escape, json_for_script, table_html
from tests.support.synthetic_run import HOSTILE


def test_text_is_escaped_and_markup_is_not():
    assert el("p", "a < b & c") == "<p>a &lt; b &amp; c</p>"
    assert el("p", el("b", "x")) == "<p><b>x</b></p>"
    assert escape(Html("<i>")) == "<i>"
    assert HOSTILE not in el("td", HOSTILE)


def test_attributes():
    made = el("input", type="text", class_="a", data_x='"><script>', checked=True, hidden=None)
    assert made == '<input type="text" class="a" data-x="&quot;&gt;&lt;script&gt;" checked>'


def test_json_in_a_script_cannot_end_the_script():
    text = json_for_script({"name": HOSTILE, "comment": "<!--", "line": "a\u2028b"})
    assert "<" not in text
    assert ">" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"name": HOSTILE, "comment": "<!--", "line": "a\u2028b"}


def test_tables_align_numbers_and_name_themselves():
    made = table_html(("a", "b"), [("x", "3.1 ms"), (HOSTILE, "−4 %")], "caption & more")
    assert '<td class="num">3.1 ms</td>' in made
    assert '<td class="num">−4 %</td>' in made
    assert "<td>x</td>" in made
    assert "caption &amp; more</caption>" in made
    assert "<img" not in made
