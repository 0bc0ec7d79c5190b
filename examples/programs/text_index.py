"""Index real text and search it: the reference of the Python language, as `help()` shows it.

Builds an inverted index with positions, answers queries ranked by BM25 (Robertson and Zaragoza, 2009) and by exact
phrase, and checks each answer against a plain scan of the text.
"""

import math
import re
import sys
from collections import defaultdict
from pydoc_data.topics import topics

WORD = re.compile(r"[a-z_]+")
K1, B = 1.2, 0.75
QUERIES = ["generator function", "context manager", "floor division", "method resolution order", "garbage"]

Index = dict[str, dict[str, list[int]]]


def build(texts: dict[str, list[str]]) -> Index:
    """word -> document -> positions."""
    index: Index = defaultdict(lambda: defaultdict(list))
    for name, words in texts.items():
        for position, word in enumerate(words):
            index[word][name].append(position)
    return index


def phrase(index: Index, words: list[str]) -> set[str]:
    """Documents in which the words follow each other."""
    found = set()
    for name, starts in index.get(words[0], {}).items():
        later = [set(index.get(word, {}).get(name, ())) for word in words[1:]]
        if any(all(start + 1 + i in places for i, places in enumerate(later)) for start in starts):
            found.add(name)
    return found


def ranked(index: Index, texts: dict[str, list[str]], words: list[str]) -> list[tuple[float, str]]:
    mean = sum(map(len, texts.values())) / len(texts)
    scores: dict[str, float] = defaultdict(float)
    for word in words:
        places = index.get(word, {})
        weight = math.log(1 + (len(texts) - len(places) + 0.5) / (len(places) + 0.5))
        for name, positions in places.items():
            count = len(positions)
            scores[name] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * len(texts[name]) / mean))
    return sorted(((score, name) for name, score in scores.items()), reverse=True)


def main() -> int:
    texts = {name: WORD.findall(text.lower()) for name, text in topics.items()}
    index = build(texts)
    print(f"{len(texts)} documents, {sum(map(len, texts.values()))} words, {len(index)} different", flush=True)
    good = len(texts) > 50
    for query in QUERIES:
        words = query.split()
        exact = phrase(index, words)
        scanned = {name for name, text in texts.items() if f" {query} " in f" {' '.join(text)} "}
        best = ", ".join(f"{name} {score:.1f}" for score, name in ranked(index, texts, words)[:3])
        print(f"{query!r}: in {len(exact)} documents as a phrase; best: {best or 'none'}")
        good = good and exact == scanned
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
