"""The console: the web page of a hub. A client of the public API with the signed-in user's rights, nothing more."""
