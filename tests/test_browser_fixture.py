"""The browser of the tests is a real one: it lays out a page and runs its scripts."""


def test_the_browser_runs_a_page(browser):
    page = browser.new_page()
    page.set_content("<button onclick=\"this.textContent = 'turned down'\">head</button>")
    page.click("button")
    assert page.inner_text("button") == "turned down"
    page.close()
