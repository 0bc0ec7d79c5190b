"""Where jobs come from: public traces as they lie, and generators fitted to them."""
