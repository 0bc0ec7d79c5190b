"""`python -I -S path/to/supervisor ...`: an isolated interpreter finds nothing but the standard library and this."""

import importlib
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))
importlib.import_module("yunhe.site.supervisor.main").main()
