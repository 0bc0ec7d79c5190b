"""All commands by name: where each one lives, and its one line in the help.

The line is repeated here from the command so that `--help` imports no command; a test holds the two together.
"""

from yunhe.cli.lazy import Branch, Leaf, Tree

_WORK = "Place and follow work"
_LOOK = "Look at the network"
_MONEY = "Money"
_RUN = "Run the network"
_SETUP = "Set up"

TREE: Tree = {
    "quote": Leaf("yunhe.cli.submit", "Show what an order would cost, where it fits and where not.", _WORK),
    "submit": Leaf("yunhe.cli.submit", "Place orders, from files or written as options.", _WORK),
    "orders": Leaf("yunhe.cli.orders", "List your orders, newest first.", _WORK),
    "show": Leaf("yunhe.cli.orders", "Show one order, its tasks and what happened to it.", _WORK),
    "why": Leaf("yunhe.cli.orders", "Say why an order is where it is, or why it waits.", _WORK),
    "logs": Leaf("yunhe.cli.orders", "Print what an order's program wrote.", _WORK),
    "watch": Leaf(
        "yunhe.cli.watch",
        "Show what happens, as it happens: to one order until it is settled, or to all that your key may see.",
        _WORK,
    ),
    "wait": Leaf("yunhe.cli.orders", "Wait until orders have ended and are settled.", _WORK),
    "cancel": Leaf("yunhe.cli.orders", "Stop orders, or withdraw them while they wait.", _WORK),
    "outputs": Branch(
        "Files that an order left.",
        {
            "list": Leaf("yunhe.cli.outputs", "List the files that an order left."),
            "get": Leaf("yunhe.cli.outputs", "Download the files that an order left."),
        },
        _WORK,
    ),
    "usage": Leaf("yunhe.cli.orders", "Show what an order used and what was charged for it.", _WORK),
    "pools": Leaf("yunhe.cli.catalogue", "List pools: what is free, measured speed and price.", _LOOK),
    "lines": Leaf(
        "yunhe.cli.lines",
        "List each site's line to its nearest place: latency, and what moves on it now.",
        _LOOK,
    ),
    "chips": Leaf("yunhe.cli.catalogue", "List known chips with their public figures and sources.", _LOOK),
    "clusters": Leaf("yunhe.cli.catalogue", "List the national hub clusters with their figures.", _LOOK),
    "factors": Leaf("yunhe.cli.catalogue", "List emission factors of the grids.", _LOOK),
    "places": Leaf("yunhe.cli.catalogue", "List places that a latency can be asked to.", _LOOK),
    "status": Leaf("yunhe.cli.setup", "Show whether the hub answers and what it is doing.", _LOOK),
    "balance": Leaf("yunhe.cli.money", "Show your organisation's balance.", _MONEY),
    "invoice": Leaf("yunhe.cli.money", "Show the invoice of a month.", _MONEY),
    "deposit": Leaf("yunhe.cli.money", "Book money that an organisation has paid (operators).", _MONEY),
    "ledger": Branch(
        "The books.",
        {
            "trial-balance": Leaf("yunhe.cli.money", "Show every account's balance; each unit sums to zero."),
            "postings": Leaf("yunhe.cli.money", "List moves of money, newest first."),
        },
        _MONEY,
    ),
    "up": Leaf("yunhe.cli.embedded", "Start a small network of your own on this machine.", _RUN),
    "demo": Leaf("yunhe.cli.embedded", "Start three sites and run the example orders on them.", _RUN),
    "hub": Branch(
        "Run a hub.",
        {
            "init": Leaf("yunhe.cli.hub", "Make the database and the operator's key."),
            "serve": Leaf("yunhe.cli.hub", "Run the hub until it is stopped."),
        },
        _RUN,
    ),
    "console": Branch(
        "Run the web page.",
        {"serve": Leaf("yunhe.cli.console", "Serve the web page of this hub until Ctrl-C.")},
        _RUN,
    ),
    "site": Branch(
        "Run a site, or look after the sites of a network.",
        {
            "token": Leaf("yunhe.cli.sites", "Make a one-time token for a site to join (operators)."),
            "join": Leaf("yunhe.cli.agent", "Enrol this machine as a site, with a one-time token."),
            "serve": Leaf("yunhe.cli.agent", "Run the agent of a site that has joined."),
            "approve": Leaf("yunhe.cli.sites", "Let a joined site take part, at prices (operators)."),
            "tariff": Leaf("yunhe.cli.sites", "Say when power is cheap or clean at a site (operators, its provider)."),
            "list": Leaf("yunhe.cli.sites", "List sites."),
            "show": Leaf("yunhe.cli.sites", "Show one site: place, grid, pools, measured speed."),
            "certify": Leaf(
                "yunhe.cli.certify", "Measure the pools of this machine now, or have the hub test SITE again."
            ),
            "lend": Leaf("yunhe.cli.lending", "Say what a site lends: share, hours, length of runs."),
            "pause": Leaf("yunhe.cli.agent", "Give a site no new work; what runs there goes on."),
            "resume": Leaf("yunhe.cli.agent", "Give a paused site work again."),
            "charges": Leaf(
                "yunhe.cli.earning", "List what ran at a site and what it earned, newest first (its provider)."
            ),
            "revenue": Leaf("yunhe.cli.earning", "Show what a site earned in a month, day by day (its provider)."),
            "leave": Leaf("yunhe.cli.sites", "Take a site out of the network for good."),
        },
        _RUN,
    ),
    "org": Branch(
        "Organisations (operators).",
        {
            "create": Leaf("yunhe.cli.accounts:org", "Add an organisation."),
            "list": Leaf("yunhe.cli.accounts:org", "List organisations."),
            "set": Leaf(
                "yunhe.cli.accounts:org", "Change an organisation's quota, weight, credit or name (operators)."
            ),
        },
        _RUN,
    ),
    "key": Branch(
        "API keys.",
        {
            "create": Leaf("yunhe.cli.accounts:key", "Make an API key; it is shown once."),
            "list": Leaf("yunhe.cli.accounts:key", "List API keys, without their secrets."),
            "revoke": Leaf("yunhe.cli.accounts:key", "Make an API key worthless."),
        },
        _RUN,
    ),
    "rounds": Branch(
        "Rounds of placement: why orders went where they did (operators).",
        {
            "list": Leaf("yunhe.cli.rounds", "List the rounds that the hub keeps, newest first (operators)."),
            "show": Leaf("yunhe.cli.rounds", "Show one round, or one order in it with its candidates (operators)."),
            "policy": Leaf("yunhe.cli.rounds", "Show what rounds go by, and how the latest one went (operators)."),
        },
        _RUN,
        usual="list",
    ),
    "audit": Leaf("yunhe.cli.trail", "List what people changed: who, when, what, before and after (operators).", _RUN),
    "events": Leaf(
        "yunhe.cli.trail",
        "List what happened to anybody's orders, newest first (operators); as it happens: yunhe watch.",
        _RUN,
    ),
    "account": Branch(
        "People who sign in through a provider (operators).",
        {
            "link": Leaf("yunhe.cli.identities:account", "Say for whom a person acts who signs in through a provider."),
            "list": Leaf("yunhe.cli.identities:account", "List people who sign in through a provider."),
            "unlink": Leaf("yunhe.cli.identities:account", "Take a person's link away; their sessions end."),
        },
        _RUN,
    ),
    "sim": Branch(
        "Ask what would happen if: simulate a network.",
        {
            "run": Leaf("yunhe.cli.sim", "Run a scenario and write what came of it."),
            "compare": Leaf("yunhe.cli.sim", "Show two runs, or two folders of runs over seeds, side by side."),
            "sweep": Leaf(
                "yunhe.cli.sim", "Run a scenario over seeds, as it is and with each change by itself, and compare."
            ),
            "replay": Leaf(
                "yunhe.cli.sim",
                "Decide recorded rounds of a hub again, and say whether each comes out the same to the last byte.",
            ),
        },
        _RUN,
    ),
    "bench": Branch(
        "Measure, and compare with what others published.",
        {
            "tables": Leaf(
                "yunhe.cli.bench",
                "Print public tables of placement: published, reproduced and Yunhe's own, side by side.",
            )
        },
        _RUN,
    ),
    "login": Leaf("yunhe.cli.setup", "Store a hub's address and your key for it.", _SETUP),
    "config": Leaf("yunhe.cli.setup", "Show which hub is used, and where its address comes from.", _SETUP),
}
