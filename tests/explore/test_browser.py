"""The page in a browser: it draws without a fault, and answers to switches, keys and the pointer.

Chromium and its driver must be installed (Debian: chromium, chromium-driver); nothing is fetched.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Page

webdriver = pytest.importorskip("selenium.webdriver", reason="the package selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE_S = 300  # for what takes seconds, on a machine that does other things too
# Any user, in any container; surfaces are drawn without a graphics card.
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
)
CHARTS = ("errors", "plane-loss", "plane-psp", "spectrum", "line", "curves", "origins")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed"),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    found.command_executor.client_config.timeout = PATIENCE_S  # surfaces without a graphics card, on a busy machine
    yield found
    found.quit()


@pytest.fixture
def browser(driver: Any, page: Page) -> Any:
    """The browser, in which the page is just opened from its file."""
    _resize(driver, 1280)
    driver.get(page.path.as_uri())
    return driver


def _resize(driver: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def _until(browser: Any, answer: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, PATIENCE_S).until(lambda _: answer())


def _drawn(browser: Any, chart: str) -> Any:
    """The element of a chart, once it is drawn."""
    browser.execute_script(f"document.getElementById('plot-{chart}').scrollIntoView({{behavior: 'instant'}})")
    element = browser.find_element(By.ID, f"plot-{chart}")
    _until(browser, lambda: browser.execute_script("return arguments[0].calcdata?.length", element))
    return element


def _data(browser: Any, plot: Any) -> list[dict[str, Any]]:
    """What is drawn: meta and y of each trace."""
    return browser.execute_script("return arguments[0].data.map(({ meta, y, name }) => ({ meta, y, name }))", plot)


def _switch(browser: Any, plot: Any, label: str) -> None:
    path = f"./ancestor::figure//label[contains(@class, 'switch')][contains(., '{label}')]/input"
    box = plot.find_element(By.XPATH, path)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", box)
    box.click()


def test_every_chart_is_drawn_without_a_fault_or_a_request(browser: Any) -> None:
    for chart in CHARTS:
        assert _drawn(browser, chart).is_displayed()
    faults = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert faults == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []


def test_switches_of_strategies_and_levels_change_what_is_drawn(browser: Any) -> None:
    plot = _drawn(browser, "errors")
    before = _data(browser, plot)
    assert {trace["meta"]["strategy"] for trace in before} >= {"random-structure", "gradual"}
    _switch(browser, plot, "random structure")
    after = _data(browser, plot)
    assert {t["meta"]["strategy"] for t in before} - {t["meta"]["strategy"] for t in after} == {"random-structure"}
    _switch(browser, plot, "95 %")
    of_g = [t for t in _data(browser, plot) if (t["meta"]["strategy"], t["meta"]["kind"]) == ("gradual", "mean")]
    assert of_g[0]["meta"]["level"] == ["50", "80", "90"]
    assert of_g[0]["y"] == pytest.approx([1.25, 1.375, 1.45])
    _switch(browser, plot, "random structure")
    assert "random-structure" in {trace["meta"]["strategy"] for trace in _data(browser, plot)}


def test_a_point_under_the_pointer_shows_its_numbers_and_a_click_its_training(browser: Any) -> None:
    plot = _drawn(browser, "errors")
    # G of run 2 at 95 %: test error 1.6, by the made-up table.
    place = browser.execute_script(
        """
        const plot = arguments[0], { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
        const number = plot.data.findIndex(({ meta }) => meta.strategy === "gradual" && meta.kind === "net");
        const { x, y, customdata } = plot.data[number], i = y.findIndex((value) => Math.abs(value - 1.6) < 1e-9);
        const left = xaxis._offset + xaxis.d2p(x[i]), top = yaxis._offset + yaxis.d2p(y[i]);
        return { left: left - box.width / 2, top: top - box.height / 2, facts: customdata[i] };
        """,
        plot,
    )
    assert place["facts"][:3] == [2, 0, "95"]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    move = ActionChains(browser).move_to_element_with_offset(plot, round(place["left"]), round(place["top"]))
    move.perform()
    labels = _until(browser, lambda: plot.find_elements(By.CSS_SELECTOR, ".hoverlayer .hovertext"))
    said = labels[0].text.replace("\n", " ")
    assert "gradual (lobster, G)" in said
    assert "run 2, draw 0" in said
    assert "level 95 %: 95.50 % removed" in said
    assert "test error 1.60 %" in said
    assert "training 0.01, validation 0.05, test 0.06" in said
    assert "best epoch 20 of 300" in said
    assert "lobster/level-95/gradual/seed-2/checkpoint.safetensors" in said
    move.click().perform()
    picked = plot.find_element(By.XPATH, "./ancestor::figure").find_element(By.CLASS_NAME, "picked")
    _until(browser, lambda: "test error 1.60 %" in picked.text)
    picked.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    curves = _drawn(browser, "curves")
    _until(browser, lambda: {t["meta"]["run"] for t in _data(browser, curves)} == {"2"})
    assert {t["meta"]["strategy"] for t in _data(browser, curves)} == {"gradual"}
    assert "removal" in {t["name"] for t in _data(browser, curves)}


def test_curves_are_chosen_by_strategy_and_level(browser: Any) -> None:
    plot = _drawn(browser, "curves")
    form = plot.find_element(By.XPATH, "./ancestor::figure").find_element(By.TAG_NAME, "form")
    form.find_element(By.XPATH, ".//option[contains(., 'new random initialisation')]").click()
    form.find_element(By.XPATH, ".//option[. = '90 %']").click()
    assert {(t["meta"]["strategy"], t["meta"]["level"], t["meta"]["run"]) for t in _data(browser, plot)} == {
        ("reinit", "90", run) for run in ("0.0", "0.1", "0.2")
    }


def test_the_planes_of_loss_and_entropy_move_together_and_turn_by_keys(browser: Any) -> None:
    loss, psp = _drawn(browser, "plane-loss"), _drawn(browser, "plane-psp")
    form = loss.find_element(By.XPATH, "./ancestor::figure").find_element(By.TAG_NAME, "form")
    form.find_element(By.XPATH, ".//option[contains(., 'run 2')]").click()
    for plot in (loss, psp):
        _until(
            browser, lambda plot=plot: {t["meta"]["map"] for t in _data(browser, plot)} == {"digits/lenet5/lobster/2"}
        )
    eye = "return arguments[0]._fullLayout.scene.camera.eye"
    before = browser.execute_script(eye, loss)
    loss.send_keys(Keys.ARROW_LEFT)
    after = _until(browser, lambda: browser.execute_script(eye, loss) != before and browser.execute_script(eye, loss))
    assert after["z"] == pytest.approx(before["z"])
    assert after["x"] != pytest.approx(before["x"])


def test_the_numbers_drawn_are_there_as_a_table(browser: Any) -> None:
    plot = _drawn(browser, "spectrum")
    _switch(browser, plot, "1-S")
    details = plot.find_element(By.XPATH, "./ancestor::figure").find_element(By.CLASS_NAME, "numbers")
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    cells = [cell.text for cell in _until(browser, lambda: details.find_elements(By.TAG_NAME, "tr"))]
    assert len(cells) == 1 + 3 * 2 * 5  # runs, spaces, ranks of G
    assert "G, all parameters 1 42 2; 1; 0.00001; converged" in cells


def test_claims_are_filtered_by_verdict_and_by_words(browser: Any) -> None:
    claims = browser.find_elements(By.CLASS_NAME, "claim")
    form = browser.find_element(By.ID, "claims-filter")
    form.find_element(By.NAME, "words").send_keys("resnet")
    shown = [claim.text for claim in claims if claim.is_displayed()]
    assert shown
    assert all("ResNet" in text for text in shown)
    assert browser.find_element(By.ID, "claims-count").text == f"{len(shown)} of 20 claims"
    for box in form.find_elements(By.NAME, "verdict"):
        box.send_keys(Keys.SPACE)  # by the keyboard: the charts above are still being drawn, which moves what is below
    assert not any(claim.is_displayed() for claim in claims)


def test_lists_of_files_are_those_of_the_chosen_figure(browser: Any) -> None:
    plot = _drawn(browser, "origins")
    form = plot.find_element(By.XPATH, "./ancestor::figure").find_element(By.TAG_NAME, "form")
    form.find_element(By.XPATH, ".//option[. = 'fig2']").click()
    shown = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#origins details") if one.is_displayed()]
    assert "notebook fig2.ipynb" in shown
    assert "notebook fig1.ipynb" not in shown


def test_a_narrow_page_is_not_wider_than_the_window(browser: Any) -> None:
    _resize(browser, 400)
    browser.refresh()
    for chart in CHARTS:
        _drawn(browser, chart)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    # What the height is stands below a scene, as beside it there is no room.
    loss = _drawn(browser, "plane-loss")
    assert browser.execute_script("return arguments[0]._fullLayout.scene.zaxis.title.text", loss) == ""
    assert "Height: loss (nats)." in loss.find_element(By.XPATH, "./ancestor::figure").text
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
