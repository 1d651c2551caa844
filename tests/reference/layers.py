"""The losses on hidden states and attention, one number at a time. They share no code with attar or torch.

Tensors are nested lists: states [text][token][feature], scores [text][head][query][key], heads' states
[text][head][token][feature], masks [text][token].
"""

import math


def hidden_mse(student, teacher, mask):
    found = []
    for a, b, real in zip(student, teacher, mask, strict=True):
        for x, y, keep in zip(a, b, real, strict=True):
            if keep:
                found.append(sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / len(x))
    return sum(found) / len(found)


def hidden_cosine(student, teacher, mask):
    found = []
    for a, b, real in zip(student, teacher, mask, strict=True):
        for x, y, keep in zip(a, b, real, strict=True):
            if keep:
                product = sum(p * q for p, q in zip(x, y, strict=True))
                norms = math.sqrt(sum(p * p for p in x)) * math.sqrt(sum(q * q for q in y))
                found.append(1 - product / norms)
    return sum(found) / len(found)


def score_mse(student, teacher, mask):
    """A head at a time, as in the paper; pairs of real tokens alone."""
    heads = len(student[0])
    per_head = []
    for head in range(heads):
        cells = []
        for text, real in enumerate(mask):
            for query in [i for i, keep in enumerate(real) if keep]:
                for key in [i for i, keep in enumerate(real) if keep]:
                    cells.append((student[text][head][query][key] - teacher[text][head][query][key]) ** 2)
        per_head.append(sum(cells) / len(cells))
    return sum(per_head) / heads


def attend(scores, real):
    """Softmax of one row of scores over the real keys, 0 elsewhere."""
    weights = [math.exp(s) if keep else 0.0 for s, keep in zip(scores, real, strict=True)]
    return [w / sum(weights) for w in weights]


def attention_kl(student, teacher, mask):
    rows = []
    for text, real in enumerate(mask):
        for head in range(len(student[text])):
            for query in [i for i, keep in enumerate(real) if keep]:
                q, p = attend(student[text][head][query], real), attend(teacher[text][head][query], real)
                rows.append(sum(b * math.log(b / a) for a, b in zip(q, p, strict=True) if b > 0))
    return sum(rows) / len(rows)


def probability_mse(student, teacher, mask):
    def softened(scores):
        return [[[attend(row, real) for row in head] for head in text] for text, real in zip(scores, mask, strict=True)]

    return score_mse(softened(student), softened(teacher), mask)


def relation_scores(states, heads):
    """Join the attention heads of every token, split anew, and take scaled products."""

    def product(one, other):
        return sum(p * q for p, q in zip(one, other, strict=True))

    found = []
    for text in states:
        tokens = range(len(text[0]))
        joined = [[x for head in text for x in head[token]] for token in tokens]
        width = len(joined[0]) // heads
        cut = [[row[h * width : (h + 1) * width] for row in joined] for h in range(heads)]
        found.append([[[product(one[i], one[j]) / math.sqrt(width) for j in tokens] for i in tokens] for one in cut])
    return found
