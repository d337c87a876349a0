"""The report in a browser: hover, pin, filter, select, download, keyboard, narrow and dark windows, 50,000 instances.

Needs Chromium and its driver (Debian: chromium chromium-driver) and selenium: without them the tests are skipped, or
fail where the environment variable CI is set.
"""

import contextlib
import os
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import table
from looking import random_records, run, write_statistics

from robust_data import records
from robust_data.analysis import lists
from robust_data.analysis.statistics_file import open_statistics
from robust_data.metrics import instance_metrics, rank_correlation
from robust_data.plot_utils import instances
from robust_data.plot_utils.page import build, files

# Continuous integration must open the pages; elsewhere a machine without a browser leaves these tests out.
IN_CI = bool(os.environ.get("CI"))
if not IN_CI:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -r tests/requirements.txt")
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NO_BROWSER = "no Chromium with its driver on the PATH: apt-get install chromium chromium-driver"
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER) and not IN_CI, reason=NO_BROWSER)

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"),
)
INSTANCES, CLASSES, SIDE = 90, 3, 8
EVIL = '=<img src=x onerror=window.hacked=1>, "q"'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert CHROMIUM and DRIVER, NO_BROWSER
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report_page(tmp_path_factory):
    """The page of 90 instances, each an image of one colour on the left and black on the right, and its metrics."""
    folder = tmp_path_factory.mktemp("report")
    labels = np.arange(INSTANCES) % CLASSES
    images = np.zeros((INSTANCES, SIDE, SIDE, 3), dtype=np.uint8)
    images[:, :, : SIDE // 2] = colours()[:, None, None]
    np.savez(folder / "data.npz", images=images, labels=labels)
    path, rows = write_statistics(
        folder / "page.npy",
        labels,
        perturbation="horizontal_flip",
        severity=3,
        dataset_name="npz",
        split="train",
        label_names=["cat", EVIL, "eel"],
        checkpoints=[{"epoch": epoch} for epoch in range(4)],
        arguments={"dataset_name": "npz", "data_dir": str(folder / "data.npz"), "seed": 0},
    )
    process = run("report.py", "--statistics", path)
    assert process.returncode == 0 and process.stderr == ""
    return SimpleNamespace(path=path.with_suffix(".html"), metrics=instance_metrics(rows), rows=rows, labels=labels)


def colours():
    """A colour for each instance, uint8 [N,3]."""
    number = np.arange(INSTANCES)
    return np.stack([255 - number, 100 + number, 2 * number], axis=1).astype(np.uint8)


@pytest.fixture
def page(browser, report_page):
    browser.get(report_page.path.as_uri())
    show_map(browser)
    return browser


def show_map(browser):
    browser.execute_script("document.getElementById('plot').scrollIntoView({behavior: 'instant', block: 'center'})")
    time.sleep(0.1)


def by_id(browser, name):
    return browser.find_element(By.ID, name)


def position(browser, index):
    place = browser.execute_script("return robustDataMap.positionOf(arguments[0])", index)
    return round(place["x"]), round(place["y"])


def move(browser, x, y):
    actions = ActionBuilder(browser)
    actions.pointer_action.move_to_location(x, y)
    actions.perform()


def click(browser, index):
    drag(browser, position(browser, index))


def drag(browser, start, *rest):
    """Press at a place, go on to others, release."""
    actions = ActionBuilder(browser)
    pointer = actions.pointer_action.move_to_location(*start).pointer_down()
    for place in rest:
        pointer.move_to_location(*place)
    pointer.pointer_up()
    actions.perform()


def pinned(browser, within=""):
    """The titles of the pinned cards, the newest first."""
    return [title.text for title in browser.find_elements(By.CSS_SELECTOR, f"{within}#pinned h3")]


def hover(browser, index):
    """Point at an instance; returns the text of the card, without which it fails."""
    move(browser, *position(browser, index))
    WebDriverWait(browser, 5).until(lambda _: by_id(browser, "card").is_displayed())
    return by_id(browser, "card").text


def apart(metrics, count=4):
    """Indices of instances that have no close neighbour on the map."""
    points = np.stack(
        [metrics[name] / metrics[name].max() for name in ("perturbed_loss_mean", "perturbed_loss_std")], axis=1
    )
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 10 * np.eye(len(points))
    return metrics["index"][np.argsort(-distances.min(axis=1))[:count]].tolist()


def pixels(browser, selector):
    """The canvases that match, drawn, as uint8 [K,H,W,3]."""
    script = """
        const read = (canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return [...document.querySelectorAll(arguments[0])].filter(canvas => canvas.dataset.drawn)
            .map(canvas => [canvas.height, canvas.width, [...read(canvas)]]);"""
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(script, selector))
    return [
        np.array(data, dtype=np.uint8).reshape(height, width, 4)[..., :3]
        for height, width, data in browser.execute_script(script, selector)
    ]


def complaints(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_page_opens_without_a_complaint_and_without_the_network(page):
    assert complaints(page) == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert by_id(page, "count").text == "90 of 90 instances pass the filters; no region is selected."
    # Names are shown, and not run.
    assert page.execute_script("return window.hacked") is None
    assert EVIL in [heading.text for heading in page.find_elements(By.CSS_SELECTOR, "#samples h3")]


def test_hovering_shows_the_instance(page, report_page):
    metrics, last = report_page.metrics, report_page.rows[-1]
    for index in apart(metrics):
        text = hover(page, index)
        name = ["cat", EVIL, "eel"][report_page.labels[index]]
        assert text.startswith(f"#{index}: {name}")
        assert f"clean: {'✓' if last['original_pred'][index] else '✗'}" in text
        assert f"{float(np.float32(metrics['perturbed_loss_mean'][index])):.3g}".rstrip("0").rstrip(".") in text
        clean, perturbed = pixels(page, "#card canvas")
        np.testing.assert_array_equal(clean[:, : SIDE // 2], np.broadcast_to(colours()[index], (SIDE, SIDE // 2, 3)))
        assert not clean[:, SIDE // 2 :].any()
        np.testing.assert_array_equal(perturbed, clean[:, ::-1])
    move(page, 5, 5)
    assert not by_id(page, "card").is_displayed()


def test_the_chart_shows_the_losses(page, report_page):
    (index,) = apart(report_page.metrics, 1)
    hover(page, index)
    dots = {
        kind: [
            (float(dot.get_attribute("cy")), "right" in dot.get_attribute("class"))
            for dot in page.find_elements(By.CSS_SELECTOR, f"#card .{kind}-dot")
        ]
        for kind in ("clean", "perturbed")
    }
    rows = report_page.rows[:, index]
    heights = np.array([height for kind in dots for height, _ in dots[kind]])
    losses = np.concatenate([rows["original_loss"], rows["after_perturb_loss"]])
    # Downwards in pixels is a smaller loss, on one straight scale.
    assert np.corrcoef(heights, losses)[0, 1] < -0.9999
    assert [right for _, right in dots["clean"]] == rows["original_pred"].tolist()
    assert [right for _, right in dots["perturbed"]] == rows["after_perturb_pred"].tolist()


def test_clicking_pins_and_unpins(page, report_page):
    first, second = apart(report_page.metrics, 2)
    for index in (first, second, second):
        click(page, index)
    assert [title.split(":")[0] for title in pinned(page)] == [f"2. #{second}", f"1. #{first}"]
    page.find_element(By.CSS_SELECTOR, "#pinned .remove").click()
    assert [title.split(":")[0] for title in pinned(page)] == [f"1. #{first}"]


def counted(browser, start):
    WebDriverWait(browser, 5).until(lambda _: by_id(browser, "count").text.startswith(start))


def choose(browser, **options):
    """Choose in lists of the page by their ids, by what the options say."""
    for name, text in options.items():
        Select(by_id(browser, name.replace("_", "-"))).select_by_visible_text(text)


def downloaded(browser, folder, name, button="#download"):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.execute_script("document.querySelector(arguments[0]).click()", button)
    WebDriverWait(browser, 10).until(lambda _: (folder / name).exists())
    return table(folder / name)


def box(browser, selector):
    """Left, top, right and bottom of an element in the window, in px."""
    script = "const {left, top, right, bottom} = document.querySelector(arguments[0]).getBoundingClientRect();"
    return browser.execute_script(script + "return [left, top, right, bottom]", selector)


def test_filters_hide_instances(page, report_page):
    index = next(index for index in apart(report_page.metrics, 20) if report_page.labels[index] == 0)
    flips = report_page.metrics["flip_rate"]
    choose(page, filter_class="eel")
    counted(page, "30 of 90")
    move(page, *position(page, index))
    assert f"#{index}:" not in by_id(page, "card").text
    choose(page, filter_class="all")
    for end, kept in (("low", flips >= 0.5), ("high", flips == 0.5)):
        by_id(page, f"flip-{end}").clear()
        by_id(page, f"flip-{end}").send_keys("0.5")
        counted(page, f"{np.count_nonzero(kept)} of 90")


def test_a_dragged_region_is_downloaded(page, report_page, tmp_path):
    left, top, right, bottom = box(page, "#chart")
    corners = [(left + (right - left) * x, top + (bottom - top) * y) for x, y in ((0.15, 0.3), (0.7, 0.8))]
    drag(page, *(list(map(round, corner)) for corner in corners))
    low, high = (
        [float(by_id(page, f"{axis}-{end}").get_attribute("value")) for axis in "xy"] for end in ("low", "high")
    )
    metrics, labels = report_page.metrics, report_page.labels
    inside = [
        (metrics[name] >= least) & (metrics[name] <= most)
        for name, least, most in zip(("perturbed_loss_std", "perturbed_loss_mean"), low, high)
    ]
    expected = np.flatnonzero(inside[0] & inside[1]).tolist()
    assert 5 < len(expected) < INSTANCES
    assert f"{len(expected)} of them lie in the region" in by_id(page, "count").text
    lines = downloaded(page, tmp_path, "page_selection.csv")
    assert [int(line["index"]) for line in lines] == expected
    for line, index in zip(lines, expected):
        # The name is a text, and no formula of a spreadsheet.
        assert (int(line["label"]), line["class"]) == (labels[index], ["cat", f"'{EVIL}", "eel"][labels[index]])
        assert float(line["sensitivity"]) == pytest.approx(metrics["perturbed_loss_mean"][index], rel=1e-6)
        assert float(line["flip_rate"]) == pytest.approx(metrics["flip_rate"][index])
    by_id(page, "zoom-in").click()
    show_map(page)
    assert by_id(page, "zoom-out").is_enabled() and left <= position(page, expected[0])[0] <= right
    by_id(page, "clear").click()
    assert "no region is selected" in by_id(page, "count").text


def test_lists_are_shown_and_downloaded(browser, tmp_path):
    rows = random_records(np.arange(INSTANCES) % CLASSES)
    rows["after_perturb_loss"][:, ::CLASSES] /= 9  # the first class is robust
    rows["original_margin"] = 1.2 - rows["original_loss"]
    records.save(tmp_path / "listed.npy", rows, {})
    opened = open_statistics(tmp_path / "listed.npy")
    (tmp_path / "listed.html").write_text(build.build_page(opened, None, np.arange(INSTANCES)))
    browser.get((tmp_path / "listed.html").as_uri())
    evidence, marked = lists.of_file(opened)
    for number, one in enumerate(marked):
        expected = np.flatnonzero(one.members).tolist()
        assert 0 < len(expected) < INSTANCES
        browser.execute_script(f"document.querySelector('button[data-show=\"{number}\"]').click()")
        counted(browser, f"{len(expected)} of 90")
        show_map(browser)
        chosen = next(index for index in apart(opened.metrics, INSTANCES) if index in expected)
        assert re.search(f"list: .*{one.name}", hover(browser, chosen))
        name = f"listed_{one.name.replace(' ', '_').replace('-', '_')}.csv"
        lines = downloaded(browser, tmp_path, name, f"button[data-save='{number}']")
        assert [int(line["index"]) for line in lines] == expected
        for line, index in zip(lines, expected):
            for column in ("fragile_share", "aum", "rank_in_class"):
                assert float(line[column]) == pytest.approx(getattr(evidence, column)[index], rel=1e-6)
            assert line["learned_at_step"] == ["10", "20", "30", ""][int(evidence.learned_at[index]) - 1]


@pytest.fixture(scope="module")
def files_page(tmp_path_factory):
    """The page of three files of the same 90 instances, opened, by its path."""
    folder = tmp_path_factory.mktemp("files")
    opened = []
    for seed in (0, 1, 2):
        path = folder / f"{seed}.npy"
        rows = random_records(np.arange(INSTANCES) % CLASSES, seed=seed)
        records.save(path, rows, {"perturbation": "blur", "arguments": {"seed": seed}})
        opened.append(open_statistics(path))
    page = build.build_page(opened[0], None, np.arange(INSTANCES), files.compare(opened))
    (folder / "files.html").write_text(page)
    return SimpleNamespace(path=folder / "files.html", metrics=[own.metrics for own in opened])


def places_on_files(browser):
    """Where all instances lie in the window on the plot of two files, which is brought into sight: float [N, 2]."""
    script = """
        document.getElementById('files-plot').scrollIntoView({behavior: 'instant', block: 'center'});
        return Array.from({length: arguments[0]}, (_, index) => {
            const {x, y} = robustDataMap.positionOf(index, 1);
            return [x, y];
        });"""
    return np.array(browser.execute_script(script, INSTANCES))


def test_measures_of_two_files_are_plotted_against_each_other_and_sorted(browser, files_page):
    browser.get(files_page.path.as_uri())
    first, second, third = files_page.metrics
    for across, up, chosen in (
        (first["perturbed_loss_mean"], second["perturbed_loss_mean"], {}),
        (third["original_loss_mean"], second["flip_rate"], {"x_file": "3: seed 2", "x_measure": "clean loss"}),
    ):
        choose(browser, **chosen, **({"y_measure": "flip rate"} if chosen else {}))
        told = by_id(browser, "files-told").text
        assert told.startswith(f"Rank correlation {float(f'{rank_correlation(across, up):.3g}'):g}, inside the classes")
        x, y = places_on_files(browser).T
        assert np.corrcoef(x, across)[0, 1] > 0.9999 and np.corrcoef(y, up)[0, 1] < -0.9999
    for element, column in (("#files table", 2), ("#classes table", 5)):
        heading = browser.find_element(By.CSS_SELECTOR, f"{element} thead th:nth-child({column}) button")
        for falls in (True, False):
            browser.execute_script("arguments[0].click()", heading)
            cells = browser.find_elements(By.CSS_SELECTOR, f"{element} tbody td:nth-child({column})")
            values = [float(cell.get_attribute("data-value")) for cell in cells]
            assert values == sorted(values, reverse=falls)
    assert complaints(browser) == []


def test_an_instance_has_one_card_on_both_plots(browser, files_page):
    browser.get(files_page.path.as_uri())
    places = places_on_files(browser)
    distances = np.linalg.norm(places[:, None] - places, axis=2) + 1e6 * np.eye(INSTANCES)
    index = int(np.argmax(distances.min(axis=1)))
    move(browser, *places[index].round().astype(int).tolist())
    WebDriverWait(browser, 5).until(lambda _: by_id(browser, "card").is_displayed())
    card = by_id(browser, "card").text
    assert card.startswith(f"#{index}: {index % CLASSES}")
    for seed, metrics in enumerate(files_page.metrics):
        shown = browser.find_elements(By.CSS_SELECTOR, f"#card tr[title='seed {seed}'] td")
        values = [metrics[name][index] for _, name, _ in files.MEASURES]
        assert [float(cell.text) for cell in shown] == pytest.approx(values, rel=5e-3)
    # It lies beside the plot that is pointed at.
    assert box(browser, "#card")[1] > box(browser, "#chart")[3]
    show_map(browser)
    assert hover(browser, index) == card and box(browser, "#card")[3] < box(browser, "#files")[1]
    click(browser, index)
    move(browser, 5, 5)
    by_id(browser, "files-chart").send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    titles = pinned(browser, "#files ")
    assert len(titles) == 2 and titles[1].startswith(f"1. #{index}:")
    assert complaints(browser) == []


def test_the_keyboard_reaches_instances(page):
    chart = by_id(page, "chart")
    chart.send_keys(Keys.ARROW_RIGHT)
    first = by_id(page, "card").text.split(":")[0]
    x = position(page, int(first[1:]))[0]
    chart.send_keys(Keys.ARROW_RIGHT)
    second = by_id(page, "card").text.split(":")[0]
    assert second != first and position(page, int(second[1:]))[0] >= x
    assert f"instance {second[1:]}," in by_id(page, "announce").get_attribute("textContent")
    chart.send_keys(Keys.ENTER)
    assert second in pinned(page)[0]
    chart.send_keys(Keys.ESCAPE)
    assert not by_id(page, "card").is_displayed()


def test_every_control_has_a_name_and_takes_the_focus(page):
    page.refresh()  # the keyboard starts at the top, not at the map that the fixture scrolled to
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('input, select, button, [tabindex]')].filter(control => "
        "!(control.labels?.length || control.textContent.trim() || control.getAttribute('aria-label')))"
        ".map(control => control.outerHTML)"
    )
    assert unnamed == []
    visited = set()
    for _ in range(30):
        page.switch_to.active_element.send_keys(Keys.TAB)
        visited.add(page.switch_to.active_element.get_attribute("id"))
    named = "filter-class filter-group flip-low flip-high find-index chart x-low y-high download"
    assert set(named.split()) <= visited


@contextlib.contextmanager
def sized(browser, width, height, scheme=None, touch=False):
    """The page, opened anew in a window of this size, on a screen for fingers, or in a scheme of colours."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
    fingers = {"enabled": touch} | ({"maxTouchPoints": 1} if touch else {})
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    try:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", fingers)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.refresh()
        yield browser
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_every_window_fits(page, scheme, width):
    with sized(page, width, 900, scheme):
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        background, ink = page.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        light = [sum(map(int, colour[4:-1].split(","))) for colour in (background, ink)]
        assert (light[0] > light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 500
        assert complaints(page) == []


@pytest.fixture
def window(page):
    """The page in a window of 1400 x 900, as it opens."""
    with sized(page, 1400, 900):
        yield page


def test_the_whole_map_is_above_the_fold_and_no_card_covers_or_moves_it(window, report_page):
    places = [box(window, selector) for selector in ("#chart", "#region", "#samples")]
    left, top, right, bottom = places[0]
    assert top >= 0 and bottom <= 900
    for index in apart(report_page.metrics):
        hover(window, index)
        card = box(window, "#card")
        assert card[0] >= right and card[1] >= 0 and card[3] <= 900
        click(window, index)
        assert [box(window, selector) for selector in ("#chart", "#region", "#samples")] == places


def test_a_finger_scrolls_the_page_and_pins(page, report_page):
    """On the map, as elsewhere on the page."""

    def send(kind, *place):
        points = [dict(zip("xy", place))] if place else []
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    with sized(page, 400, 800, touch=True):
        show_map(page)
        (index,) = apart(report_page.metrics, 1)
        send("touchStart", *position(page, index))
        send("touchEnd")
        assert pinned(page)[0].startswith(f"1. #{index}:")
        left, top, right, bottom = box(page, "#chart")
        before = page.execute_script("return window.scrollY")
        send("touchStart", (left + right) / 2, bottom - 60)
        for step in range(1, 11):
            send("touchMove", (left + right) / 2, bottom - 60 - 15 * step)
        send("touchEnd")
        WebDriverWait(page, 5).until(lambda _: page.execute_script("return window.scrollY") > before + 100)
        assert "no region is selected" in by_id(page, "count").text


def test_the_groups_are_the_same_everywhere(page, report_page):
    """What the filter keeps, what the table of classes says and where the samples stand."""
    for number, name in enumerate(instances.GROUPS.values()):
        choose(page, filter_group=name)
        counted(page, "30 of 90")
        page.execute_script("document.getElementById('count').textContent = ''")
        shares = page.find_elements(By.CSS_SELECTOR, f"table.sortable tbody td:nth-child({8 + number})")
        shares = [float(cell.get_attribute("data-value")) for cell in shares]
        assert sum(shares) * INSTANCES / CLASSES == pytest.approx(30)
        samples = page.find_elements(By.CSS_SELECTOR, f"#samples .group:nth-child({1 + number}) .sample")
        shown = [int(sample.get_attribute("textContent").split("#")[-1]) for sample in samples]
        assert (instances.group_numbers(report_page.metrics)[shown] == number).all() and len(shown) > 0


def test_texts_are_shown(browser, tmp_path):
    path, rows = write_statistics(
        tmp_path / "texts.npy", np.arange(20) % 2, label_names=["bad", "good"], perturbation="pgd"
    )
    opened = open_statistics(path)
    index = SimpleNamespace(numpy=lambda: opened.metrics["index"])
    dataset = SimpleNamespace(
        modality="text", index=index, sources=[f"text {number} </script> {EVIL}" for number in range(20)]
    )
    (tmp_path / "texts.html").write_text(build.build_page(opened, dataset, np.arange(20)))
    browser.get((tmp_path / "texts.html").as_uri())
    show_map(browser)
    (chosen,) = apart(opened.metrics, 1)
    assert f"text {chosen} </script> {EVIL}" in hover(browser, chosen)
    assert browser.execute_script("return window.hacked") is None
    assert complaints(browser) == []


def test_statistics_without_a_dataset(browser, tmp_path):
    path, rows = write_statistics(tmp_path / "alone.npy", np.arange(20) % 2)
    rows["after_perturb_loss"][-1, 3] = np.inf
    records.save(path, rows, {})
    with np.errstate(invalid="ignore"):
        opened = open_statistics(path)
        (tmp_path / "alone.html").write_text(build.build_page(opened, None, np.arange(20)))
    browser.get((tmp_path / "alone.html").as_uri())
    show_map(browser)
    finite = np.flatnonzero(np.arange(20) != 3)
    (chosen,) = apart({name: values[finite] for name, values in opened.metrics.items()}, 1)
    assert "clean: predicted" in hover(browser, chosen)
    by_id(browser, "find-index").send_keys("3", Keys.ENTER)
    assert "not finite" in by_id(browser, "pinned").text
    assert complaints(browser) == []


def test_50000_instances(browser, tmp_path):
    labels = np.arange(50_000) % 10
    rows = random_records(labels, checkpoints=11)
    records.save(tmp_path / "large.npy", rows, {"perturbation": "gaussian_noise", "severity": 3})
    process = run("report.py", "--statistics", tmp_path / "large.npy")
    assert process.returncode == 0, process.stderr
    path = tmp_path / "large.html"
    assert path.stat().st_size < 40_000_000
    browser.get(path.as_uri())
    assert by_id(browser, "count").text.startswith("50,000 of 50,000")
    assert browser.execute_script("return document.querySelectorAll('*').length") < 5000
    show_map(browser)
    metrics = instance_metrics(rows)
    farthest = int(metrics["index"][np.argmax(metrics["perturbed_loss_mean"])])
    assert hover(browser, farthest).startswith(f"#{farthest}:")
    choose(browser, filter_class="7")
    counted(browser, "5,000 of 50,000")
    assert complaints(browser) == []
