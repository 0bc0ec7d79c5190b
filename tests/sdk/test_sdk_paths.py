"""An id that a user gives stays one segment of the address, whatever it is."""

import httpx
import pytest

from yunhe.sdk.transport import escaped


@pytest.mark.parametrize(
    "part", ["..", ".", "...", "../whoami", "a/b", "a?b#c", "%2e%2e", "ord_1.0", "运河", "a b\r\nX: 1"]
)
def test_an_id_reaches_no_other_address(part: str) -> None:
    asked = httpx.Client(base_url="http://hub").build_request("GET", f"/v1/orders/{escaped(part)}/logs").url
    above, named, below = asked.raw_path.decode().rsplit("/", 2)
    assert (above, below) == ("/v1/orders", "logs")
    assert named.strip(".")
    assert asked.path == f"/v1/orders/{part}/logs"
