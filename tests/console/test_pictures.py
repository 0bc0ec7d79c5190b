"""Every page, in both languages, light and dark, on a desk and on a phone: nothing broken, and pictures of it all.

The pictures are kept where YUNHE_PICTURES names a folder (`make pictures`).
"""

import pytest

from tests.console.conftest import Windows, save
from yunhe.apps.embedded import Network
from yunhe.wire.order_yaml import load_order_yaml

ORDER = "name: picture\nrequirement: {cores: 0.1}\nrun: {command: [echo, done]}\nduration: 1m\n"
VISITOR = {"network": "/", "sign-in": "/sign-in"}
CUSTOMER = {"new": "/new", "orders": "/orders", "order": "", "money": "/money"}
OPERATOR = {"provider": "/provider", "operator": "/operator"}


@pytest.fixture(scope="session")
def order(network: Network) -> str:
    with network.customer() as client:
        placed = client.submit(load_order_yaml(ORDER))
        return client.wait(placed.id, timeout=60).id


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_every_page(windows: Windows, network: Network, order: str, language: str, dark: bool, phone: bool) -> None:
    def look(pages: dict[str, str], key: str | None) -> None:
        watched = windows(language=language, dark=dark, phone=phone)
        if key is not None:
            watched.sign_in(key)
        for name, path in pages.items():
            page = watched.open(path or f"/orders/{order}")
            page.wait_for_load_state("networkidle")
            page.wait_for_function("!document.querySelector('#content [role=status] .q-spinner')")
            assert page.locator("#content").inner_text().strip()
            assert page.locator("#content [role=alert]").count() == 0
            if phone:
                assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            scheme = "dark" if dark else "light"
            save(page, f"{name}-{language[:2]}-{scheme}-{'phone' if phone else 'desk'}")

    look(VISITOR, None)
    look(CUSTOMER, network.customer_key)
    look(OPERATOR, network.operator_key)
