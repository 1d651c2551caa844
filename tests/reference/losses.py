"""The losses of the papers, slowly and one number at a time. They share no code with attar or torch."""

import math


def softmax(logits, temperature=1.0):
    largest = max(logits)
    weights = [math.exp((z - largest) / temperature) for z in logits]
    return [w / sum(weights) for w in weights]


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def logit_mse(student, teacher):
    """Tang et al. 2019, eq. 3: the squared norm of the difference, mean over the texts."""
    squares = [sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) for a, b in zip(student, teacher, strict=True)]
    return sum(squares) / len(squares)


def entropy(logits, temperature=1.0):
    """Mean entropy of the softened teacher, times T²."""
    total = 0.0
    for row in logits:
        total -= sum(p * math.log(p) for p in softmax(row, temperature))
    return total / len(logits) * temperature**2


def kl_divergence(student, teacher, temperature=1.0):
    """Hinton et al. 2015: sum of p log(p / q), mean over the texts, times T²."""
    total = 0.0
    for a, b in zip(student, teacher, strict=True):
        q, p = softmax(a, temperature), softmax(b, temperature)
        total += sum(pi * math.log(pi / qi) for pi, qi in zip(p, q, strict=True))
    return total / len(student) * temperature**2


def soft_cross_entropy(student, teacher, temperature=1.0):
    total = 0.0
    for a, b in zip(student, teacher, strict=True):
        q, p = softmax(a, temperature), softmax(b, temperature)
        total -= sum(pi * math.log(qi) for pi, qi in zip(p, q, strict=True))
    return total / len(student) * temperature**2


def binary_soft_cross_entropy(student, teacher, temperature=1.0):
    cells = []
    for a, b in zip(student, teacher, strict=True):
        for s, t in zip(a, b, strict=True):
            q, p = sigmoid(s / temperature), sigmoid(t / temperature)
            cells.append(-p * math.log(q) - (1 - p) * math.log(1 - q))
    return sum(cells) / len(cells) * temperature**2


def binary_kl_divergence(student, teacher, temperature=1.0):
    cells = []
    for a, b in zip(student, teacher, strict=True):
        for s, t in zip(a, b, strict=True):
            q, p = sigmoid(s / temperature), sigmoid(t / temperature)
            cells.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    return sum(cells) / len(cells) * temperature**2


def task_loss(logits, labels, kind):
    """Mean over the labelled rows; 0 where there is none. A missing label is None."""
    found = []
    for row, label in zip(logits, labels, strict=True):
        if label is None:
            continue
        if kind in ("single-label", "token"):
            found.append(-math.log(softmax(row)[label]))
        elif kind == "multi-label":
            cells = [-math.log(sigmoid(z) if y else 1 - sigmoid(z)) for z, y in zip(row, label, strict=True)]
            found.append(sum(cells) / len(cells))
        else:
            found.append((row[0] - label) ** 2)
    return sum(found) / len(found) if found else 0.0
