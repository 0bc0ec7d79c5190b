"""Train a classifier of handwritten digits: one hidden layer, softmax, mini-batch gradient descent, in numpy.

Reads digits.csv.gz.b64 (64 pixels from 0 to 16, then the digit), trains on two thirds, prints the accuracy on the rest
and the confusion of the worst digit. Exits 1 when the accuracy is under 0.9.
"""

import base64
import gzip
import sys
from pathlib import Path

import numpy as np

HIDDEN, EPOCHS, BATCH, STEP = 32, 40, 32, 0.2


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    text = gzip.decompress(base64.b64decode(path.read_text())).decode()
    rows = np.array([line.split(",") for line in text.splitlines()], dtype=np.float64)
    return rows[:, :64] / 16.0, rows[:, 64].astype(np.int64)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def train(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    w1, b1 = rng.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)), np.zeros(HIDDEN)
    w2, b2 = rng.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, 10)), np.zeros(10)
    targets = np.eye(10)[y]
    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            hidden = np.maximum(x[rows] @ w1 + b1, 0)
            error = (softmax(hidden @ w2 + b2) - targets[rows]) / len(rows)
            back = (error @ w2.T) * (hidden > 0)
            w2 -= STEP * hidden.T @ error
            b2 -= STEP * error.sum(axis=0)
            w1 -= STEP * x[rows].T @ back
            b1 -= STEP * back.sum(axis=0)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: training accuracy {accuracy((w1, b1, w2, b2), x, y):.4f}", flush=True)
    return w1, b1, w2, b2


def predict(model: tuple[np.ndarray, ...], x: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = model
    return np.argmax(np.maximum(x @ w1 + b1, 0) @ w2 + b2, axis=1)


def accuracy(model: tuple[np.ndarray, ...], x: np.ndarray, y: np.ndarray) -> float:
    return float((predict(model, x) == y).mean())


def main() -> int:
    rng = np.random.default_rng(7)
    x, y = load(Path("digits.csv.gz.b64"))
    shuffled = rng.permutation(len(x))
    cut = len(x) * 2 // 3
    kept, held_out = shuffled[:cut], shuffled[cut:]
    print(f"{len(x)} digits: {len(kept)} to learn from, {len(held_out)} to be tested on", flush=True)
    model = train(x[kept], y[kept], rng)
    score = accuracy(model, x[held_out], y[held_out])
    wrong = predict(model, x[held_out]) != y[held_out]
    worst = np.bincount(y[held_out][wrong], minlength=10).argmax()
    print(f"accuracy {score:.4f}; most often mistaken: {worst}")
    return 0 if score >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
