"""Programs that run as jobs: numpy, and PyTorch where it is there; nothing of Yunhe. Each prints one JSON object."""
