"""Pages by their path. Each is a function that draws itself for a view."""

from collections.abc import Awaitable, Callable, Mapping

from yunhe.console.pages import money, network, new_order, operator, order, orders, provider, sign_in
from yunhe.console.view import View

PAGES: Mapping[str, Callable[[View], Awaitable[None]]] = {
    "/": network.page,
    "/new": new_order.page,
    "/operator": operator.page,
    "/orders": orders.page,
    "/orders/{order_id}": order.page,
    "/money": money.page,
    "/provider": provider.page,
    "/provider/{site_id}": provider.site,
    "/sign-in": sign_in.page,
}
