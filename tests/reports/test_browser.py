"""The page in headless Chromium: drawn without errors or requests, and usable."""

import json

import pytest

from reports.page import render_report

pytestmark = pytest.mark.browser


def column(page, name):
    return page.eval(f"C.{name}[state.row]")


def selected(page):
    return column(page, "policy_id")


def foreign(page):
    return [url for url in page.requests if not url.startswith(("file://", "data:", "blob:"))]


def place_of(page, row):
    """Viewport position of a candidate's mark in the front figure."""
    return page.eval(
        f"""(() => {{
            const plot = document.querySelector('.plot[id^=fig-front]');
            plot.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = plot.getBoundingClientRect();
            const {{ xaxis, yaxis }} = plot._fullLayout;
            return [box.x + xaxis._offset + xaxis.d2p(C[state.x][{row}]),
                    box.y + yaxis._offset + yaxis.d2p(C[state.y][{row}])];
        }})()"""
    )


def test_every_figure_is_drawn_without_errors_or_requests(page):
    for cost in page.eval("D.costs"):
        page.eval(f"chooseCost('{cost}')")
        page.draw_all()
        drawn = page.eval(
            "all('.plot').filter(p => p.offsetParent)"
            ".map(p => [p.id, p.data?.length ?? 0, p.querySelectorAll('svg.main-svg').length])"
        )
        assert len(drawn) >= 5
        for name, traces, pictures in drawn:
            assert traces > 0, name
            assert pictures > 0, name
    assert page.errors == []
    assert foreign(page) == []
    assert sum(url.startswith("file:") for url in page.requests) == 1


def test_hostile_names_are_shown_as_text(chromium, hostile):
    chromium.errors.clear()
    chromium.size(1280, 900)
    chromium.open(render_report(hostile))
    chromium.draw_all()
    assert chromium.eval("document.querySelectorAll('img').length") == 0
    assert "onerror=alert(1)" in chromium.eval("byId('layers').textContent")
    assert chromium.errors == []


def test_page_and_records_agree_on_the_knee(page, data):
    assert selected(page) == data.front.pick("knee", "size_bytes")
    from reports.figures.policy import PolicyFigure

    info = PolicyFigure("size_bytes").prepare(data)
    assert page.eval("layersOf(state.row).map(layer => layer.w)") == list(info.weight)
    assert page.eval("shares(state.row, 'size_bytes')") == pytest.approx(
        list(info.share), rel=1e-4
    )


def test_fronts_computed_in_the_page_equal_the_records(page, data):
    from search.fronts import front_rows

    for cost in ("size_bytes", "latency_ms", "bops"):
        for quality in ("ce", "kl", "accuracy"):
            rows = page.eval(f"(D.fronts = {{}}, frontRows('{cost}', '{quality}'))")
            assert rows == front_rows(data.unique, quality, cost), (cost, quality)


def test_a_click_selects_and_shift_click_compares(page):
    row, other = page.eval("[C.tag.indexOf('w4a8'), C.tag.indexOf('w8a8')]")  # far from others
    page.click(*place_of(page, row))
    assert page.eval("state.row") == row
    page.click(*place_of(page, other), shift=True)
    assert page.eval("[state.row, state.other]") == [row, other]
    assert "layers differ" in page.eval("byId('compared').textContent")


def test_keys_walk_along_the_front_and_copy(page):
    front = page.eval("D.fronts[state.x]")
    page.eval("select(D.fronts[state.x][3])")
    page.key("ArrowRight")
    assert page.eval("state.row") == front[4]
    page.key("ArrowLeft")
    page.key("ArrowLeft")
    assert page.eval("state.row") == front[2]
    page.key("c")
    copied = "document.documentElement.dataset.copied"
    page.wait(f"{copied} !== undefined")
    assert page.eval(copied) == f"bitfront-export run=runs/demo policy={selected(page)}"


def test_help_opens_and_closes(page):
    page.key("?")
    assert page.eval("byId('keys').open")
    page.eval("document.querySelector('#keys button').click()")
    assert not page.eval("byId('keys').open")


def test_deep_links_restore_selection_axes_and_theme(chromium, report, data):
    policy_id = data.front.fronts["latency_ms"][2]
    chromium.open(report, f"#p={policy_id}&x=latency_ms&y=accuracy&theme=dark")
    assert selected(chromium) == policy_id
    assert chromium.eval("[state.x, state.y, byId('axis-y').value]") == [
        "latency_ms",
        "accuracy",
        "accuracy",
    ]
    assert chromium.eval("document.documentElement.dataset.theme") == "dark"
    chromium.eval("select(D.selected)")
    assert "p=" not in chromium.eval("location.hash")


def test_unknown_deep_links_are_ignored(chromium, report):
    chromium.errors.clear()
    chromium.open(report, "#p=<img>&x=constructor&y=__proto__")
    assert chromium.eval("[state.row, state.x, state.y]") == [
        chromium.eval("D.selected"),
        "size_bytes",
        "ce",
    ]
    assert chromium.errors == []


def test_theme_toggle_repaints_the_plots(page):
    before = page.eval(
        "[document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    )
    page.key("t")
    after = page.eval(
        "[document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    )
    assert before[0] != after[0]
    assert before[1] != after[1]
    grid = "document.querySelector('.plot[id^=fig-front]')._fullLayout.xaxis.gridcolor"
    assert page.eval(grid) == page.eval("D.templates[themeNow()].layout.xaxis.gridcolor")


def test_filter_sort_and_csv(page, data):
    page.eval(
        "byId('filter').value = 'strategy:hawq'; byId('filter').dispatchEvent(new Event('input'))"
    )
    hawq = int((data.unique["strategy"] == "hawq").sum())
    assert page.eval("byId('candidate-count').textContent") == f"{hawq} of {len(data.unique)}"
    page.eval("document.querySelector('[data-sort=ce]').click()")
    losses = page.eval("chosenRows().map(row => C.ce[row])")
    assert losses == sorted(losses)
    page.eval("document.querySelector('[data-sort=ce]').click()")
    assert page.eval("document.querySelector('th[aria-sort]').textContent") == "Cross-entropy"
    assert page.eval("chosenRows().map(row => C.ce[row])") == losses[::-1]
    lines = page.eval("csv()").strip().split("\n")
    assert len(lines) == hawq + 1
    assert lines[0].startswith("policy_id,strategy,seed,size_bytes")


def test_a_row_of_the_table_selects(page):
    page.eval("document.querySelectorAll('#candidate-table tbody tr')[7].focus()")
    row = page.eval("Number(document.activeElement.dataset.row)")
    page.key("Enter")
    assert page.eval("state.row") == row


def test_download_is_the_policy_file(page, data, demo):
    policy_id = selected(page)
    stored = json.loads((demo / "policies" / f"{policy_id}.json").read_text())
    assert json.loads(page.eval("policyJson(state.row)")) == stored
    page.eval("document.querySelector('[data-action=download]').click()")
    assert page.eval("document.documentElement.dataset.downloaded") == f"{policy_id}.json"


def test_axis_selectors_redraw_the_front(page):
    page.eval("byId('axis-x').value = 'bops'; byId('axis-x').dispatchEvent(new Event('change'))")
    x = page.eval(
        "document.querySelector('.plot[id^=fig-front]').data.find(t => t.meta === 'front').x"
    )
    assert x == page.eval("frontRows('bops', 'ce').map(row => C.bops[row])")
    assert "x=bops" in page.eval("location.hash")


def test_narrow_screens_do_not_scroll_sideways(chromium, report):
    chromium.errors.clear()
    chromium.size(380, 800)
    chromium.open(report)
    chromium.draw_all()
    assert chromium.eval("document.documentElement.scrollWidth") <= 380
    assert chromium.errors == []


def test_print_shows_light_colours_and_no_controls(page):
    page.key("t")
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.eval("getComputedStyle(byId('reproduce')).display") == "none"
        page.eval("dispatchEvent(new Event('beforeprint'))")
        assert page.eval("document.documentElement.dataset.theme") == "light"
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
        page.eval("dispatchEvent(new Event('afterprint'))")


def test_copied_override_means_exactly_the_selected_policy(chromium, hostile):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    from reports.data import load_run
    from spaces.config import SpaceConfig

    chromium.size(1280, 900)
    chromium.open(render_report(hostile))
    (word,) = shlex.split(chromium.eval("override(state.row)"))
    override = OverridesParser.create().parse_override(word)
    assert override.key_or_group == "space.rules"
    content = {"name": "x", "weights": ["int4src"], "activations": ["int8ut"]}
    config = SpaceConfig.from_dict({**content, "rules": override.value()})
    data = load_run(hostile)
    policy = data.space.policy(data.codes(chromium.eval("C.codes[state.row]")))
    for layer, rule in zip(data.space.layers, config.rules, strict=True):
        assert rule.matches(layer, len(data.space.layers))
        assert [choice.text for choice in rule.choices] == [policy.choices[layer.name]]


def test_awkward_names_survive_shell_and_hydra(page):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    for name in ("a'b", 'a"b', "a\\", 'a\\"b', "a b", "a,b", "a]b", "ü"):
        script = f"shellWord(`x=${{quoted({json.dumps(name)})}}`)"
        (word,) = shlex.split(page.eval(script))
        assert OverridesParser.create().parse_override(word).value() == name


def test_contents_links_keep_the_view(page):
    page.eval("select(D.fronts[state.x][2])")
    row = page.eval("state.row")
    page.eval("document.querySelector('nav.contents a').click()")
    assert page.eval("state.row") == row


def choose(page, select, value):
    """Chooses an option as a person does: value and event."""
    page.eval(f"byId('{select}').value = '{value}'")
    page.eval(f"byId('{select}').dispatchEvent(new Event('change'))")


def test_layers_of_the_bits_map_can_be_listed_by_sensitivity(page, data):
    page.draw_all()
    orders = page.eval("D.orders")
    choose(page, "bits-order", "hutchinson")
    plot = "all(\".plot[id^='fig-bits']\").find(p => p.offsetParent)"
    assert page.eval(f"{plot}._fullLayout.yaxis._categories.map(Number)") == orders["hutchinson"]
    # What a row shows moves with its name: hovering the first row names the most sensitive layer.
    told = page.eval(
        f"hoverRow({plot}, {{x: 0, y: String(D.orders.hutchinson[0])}})[1][0].textContent"
    )
    assert told == data.space.layers[orders["hutchinson"][0]].name
    choose(page, "bits-order", "block")
    assert page.eval(f"{plot}.layout.shapes.length") > 0


def test_a_shared_library_beside_the_pages_is_loaded_from_disk(chromium, demo):
    page = render_report(demo, library_dir=demo.parent)
    try:
        assert page.stat().st_size < 1e6
        chromium.errors.clear()
        chromium.open(page)
        chromium.draw_all()
        assert chromium.errors == []
        assert chromium.eval("typeof Plotly.newPlot") == "function"
    finally:
        render_report(demo)
