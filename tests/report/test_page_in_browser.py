"""The page in headless Chromium: it sorts, opens, fits and runs nothing from a record."""

import pytest

from benchmark.report.page import NAME

from .browser import CHROMIUM, DRIVER, Browser
from .conftest import HOSTILE


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")
class TestInABrowser:
    @pytest.fixture
    def browser(self, tmp_path):
        with Browser(tmp_path / "profile") as browser:
            yield browser

    @pytest.fixture
    def page(self, some_runs, report):
        report()
        return some_runs / NAME

    def column(self, browser, name):
        """The texts of the runs' column of this name, from top to bottom."""
        return browser.run(
            "const table = document.querySelector('table.sortable');"
            f"const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === {name!r});"
            "return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent)"
        )

    def test_headings_sort(self, browser, page):
        browser.open(page)
        names = browser.run("return [...document.querySelectorAll('.sortable thead th')].map(h => h.textContent)")
        heading = f".sortable thead th:nth-child({names.index('test error (%)') + 1})"
        before = self.column(browser, "test error (%)")
        browser.click(f"{heading} button")
        ascending = self.column(browser, "test error (%)")
        assert sorted(ascending) == sorted(before)
        assert ascending == ["9.50", "9.75", "10.25", "14.98", "90.00", "—"]
        browser.press(f"{heading} button", "\ue007")
        assert self.column(browser, "test error (%)") == ["90.00", "14.98", "10.25", "9.75", "9.50", "—"]
        order = "return [...document.querySelectorAll('[aria-sort]')].map((h) => [h.textContent, h.ariaSort])"
        assert browser.run(order) == [["test error (%)", "descending"]]
        browser.click(".sortable thead th:nth-child(1) button")
        assert browser.run(order) == [["run", "ascending"]]
        assert self.column(browser, "run") == ["HB-Net-20"] * 3 + ["ResNet-20"] * 3
        assert browser.errors() == []

    def test_a_runs_name_opens_its_details(self, browser, page):
        browser.open(page)
        assert browser.run("return document.querySelectorAll('details[open]').length") == 0
        browser.click(".sortable tbody tr:nth-child(2) a")
        opened = browser.run(
            "return [...document.querySelectorAll('details[open] dl')].map((list) => '#' + list.id)"
        )
        assert opened == [
            browser.run("return document.querySelector('.sortable tbody tr:nth-child(2) a').getAttribute('href')")
        ]

    def test_a_run_among_many_opens_with_the_list_that_holds_it(self, browser, some_runs, add_run, report):
        for seed in range(50):
            add_run("cifar_plain20", seed=seed, profile="smoke")
        report()
        browser.open(some_runs / NAME)
        assert browser.run("return document.querySelectorAll('#details > details').length") == 1
        browser.click(".sortable tbody tr:nth-child(40) a")
        assert browser.run("return document.querySelectorAll('details[open]').length") == 2
        assert browser.errors() == []

    def test_it_fits_a_phone_and_a_desk(self, browser, page):
        for width in (390, 1200):
            browser.open(page, width)
            browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
            assert browser.run("return [innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [
                width,
                True,
            ]
            assert browser.run("return [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert browser.errors() == []

    def test_hostile_records_run_nothing(self, browser, results, add_run, report):
        add_run(HOSTILE, 5.0, device=HOSTILE, data=HOSTILE)
        report()
        browser.open(results / NAME)
        assert browser.run("return document.scripts.length") == 1
        assert browser.errors() == []
