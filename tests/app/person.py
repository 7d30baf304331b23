"""A person before a project's page, in a real browser: what one does there, with words for it."""

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import wait


@contextmanager
def explored(photos, *more):
    """The address of a server of the project; it is killed at the end, at whatever it does."""
    command = [sys.executable, "-m", "maskcon", "explore", str(photos), "--no-open", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while "token=" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            yield re.search(r"http://\S+token=\S+", said)[0]
        finally:
            process.kill()


ROW = 'document.querySelector(`#side [data-group="${arguments[0]}"]`)'


class Person:
    """What a person does in a browser, with words for it."""

    def __init__(self, browser, address):
        from selenium.webdriver.common.keys import Keys

        self.browser, self.keys = browser, Keys
        browser.get("about:blank")  # a page before this one may have lost its server
        browser.get_log("browser")
        browser.get(address)
        self.wait("document.documentElement.dataset.ready")

    def wait(self, script, *words):
        return wait(self.browser, script, *words)

    def ask(self, script, *words):
        return self.browser.execute_script(f"return {script}", *words)

    def api(self, path):
        script = "const [path, done] = arguments; fetch(path).then((r) => r.json()).then(done)"
        return self.browser.execute_async_script(script, f"api/{path}")

    def integers(self, path):
        script = (
            "const [path, done] = arguments; fetch(path).then((r) => r.arrayBuffer())"
            ".then((bytes) => done([...new Int32Array(bytes)]))"
        )
        return self.browser.execute_async_script(script, f"api/{path}")

    def go(self, place):
        """To a view, by its address."""
        self.browser.execute_script("location.hash = arguments[0]", f"#{place}")
        name = place.split("=")[0]
        self.wait("!document.getElementById(arguments[0]).hidden", f"view-{name}")

    def press(self, *keys):
        """Type where the focus is."""
        self.browser.switch_to.active_element.send_keys(*keys)

    def text(self, id_):
        return self.ask("document.getElementById(arguments[0]).textContent", id_)

    def told(self, words):
        """Wait until the page has said some words."""
        self.wait("document.getElementById('toast').textContent.includes(arguments[0])", words)

    def element(self, selector):
        return self.browser.find_element("css selector", selector)

    def errors(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]


def fine_of(person, data, picture):
    """The kind of a picture, which nobody but its file's name tells."""
    name = person.api(f"picture?id={picture}")["name"]
    return int(data.fine[int(re.search(r"(\d+)\.png$", name)[1])])


def answer_some(person, kind_of, most):
    """Answer questions by the keys, from the kind of a picture; how many were answered."""
    person.go("questions")
    for given in range(most):
        person.wait(
            "document.getElementById('asking').textContent.startsWith(arguments[0])",
            f"{given} answer",
        )
        question = person.api("question")["question"]
        if question is None:
            return given
        same = kind_of(question["left"][0]) == kind_of(question["right"][0])
        person.element("body").send_keys("s" if same else "d")
    person.wait(
        "document.getElementById('asking').textContent.startsWith(arguments[0])", f"{most} answer"
    )
    return most


def name_some(person, names):
    """Name the first groups, going on by Enter; the ids that they have then.

    What is named tells kinds apart, too, so that groups may be cut anew.
    """
    person.go("groups")
    fields = "[...document.querySelectorAll('.name-field')].filter((f) => f.offsetParent)"
    person.wait(f"{fields}.length > 2")
    person.browser.execute_script(f"{fields}[0].focus()")
    for name in names:
        person.press(name, person.keys.ENTER)
    person.wait(
        "document.getElementById('facts').textContent.includes(arguments[0])",
        f"{len(names)} named",
    )
    found = {group["name"]: group["id"] for group in person.api("groups")["groups"]}
    assert person.ask("document.activeElement.className") == "name-field"  # that of the next
    return [found[name] for name in names]


def move_some(person, group, name):
    """Move the first two pictures of a group to a new one by the keys; which they are."""
    person.go(f"group={group}")
    person.wait("document.querySelectorAll('#group-pictures .tile').length > 2")
    person.browser.execute_script("document.querySelector('#group-pictures .tile').focus()")
    person.press(" ", person.keys.SHIFT, person.keys.ARROW_RIGHT)
    assert person.text("picked") == "2 pictures picked"
    person.press("m")
    person.press(name, person.keys.ENTER)
    person.told(f"is now “{name}”")
    (made,) = [one for one in person.api("groups")["groups"] if one["name"] == name]
    assert made["count"] == 2
    return made["id"], person.api(f"group?id={made['id']}")["pictures"]


def name_group(person, group, name):
    """Name one group in its own view."""
    person.go(f"group={group}")
    field = person.element("#group-head .name-field")
    field.send_keys(name, person.keys.ENTER)
    person.told(f"{group} is now “{name}”")


def press(person, words):
    """Press the one button of the view with these words."""
    buttons = "[...document.querySelectorAll('main button')].filter((e) => e.checkVisibility())"
    script = f"{buttons}.filter((e) => e.textContent.trim() === arguments[0])"
    (button,) = person.wait(f"{script}.length === 1 && {script}", words)
    button.click()


def exported(person, title):
    """Where a press of a button of the exports has put what it made."""
    press(person, title)
    person.wait(f"document.getElementById('exported').textContent.startsWith('{title}: /')")
    return Path(person.text("exported").split(": ", 1)[1])


def learn(person):
    """Press the button, and look on until it can be kept; by the rows' names, before and after."""
    person.go("learn")
    press(person, "Learn")
    person.wait("document.querySelector('#learning progress')")
    wait(person.browser, "document.querySelector('#learning table')", seconds=400, pause=1)
    assert person.ask("document.querySelector('#learning thead').innerText").split() == [
        *("before", "after"),
    ]
    rows = person.ask(
        "[...document.querySelectorAll('#learning tbody tr')]"
        ".map((row) => [...row.children].map((e) => e.textContent))"
    )
    return {name: (before, after) for name, before, after in rows}
