"""Engines that a site can already have. Each is told and asked in the words of `contract`."""
