"""Parts of the pages about orders: the form and its offers, one order's way, log, use and charges."""
