"""Packing tasks onto the nodes of one pool: parts of a card, whole cards, cores and host memory."""
