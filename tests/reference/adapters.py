"""Slow, independent reference of a BERT layer with adapters (Houlsby et al. 2019), number by number.

    h1 = LN(x + A1(W_o attention(x)))
    y  = LN(h1 + A2(W_2 gelu(W_1 h1)))
    A(u) = u + W_up gelu(W_down u + b) + b'

It shares no code with attar or transformers and knows no tensors: vectors are lists, loops are spelt out.
"""

import math

EPSILON = 1e-12


def linear(vector, weight, bias):
    """W v + b, with W as rows of output."""
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def add(left, right):
    return [a + b for a, b in zip(left, right, strict=True)]


def gelu(vector):
    return [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in vector]


def layer_norm(vector, weight, bias):
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    scaled = [(v - mean) / math.sqrt(variance + EPSILON) for v in vector]
    return [w * v + b for w, v, b in zip(weight, scaled, bias, strict=True)]


def softmax(values):
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def adapter(u, parts):
    """A(u); ``parts`` holds (W_down, b) and (W_up, b')."""
    down, up = parts
    return add(u, linear(gelu(linear(u, *down)), *up))


def attention(rows, layer, heads):
    """Joined heads of every row, before W_o."""
    queries, keys, values = ([linear(x, *layer[name]) for x in rows] for name in ("query", "key", "value"))
    size = len(rows[0]) // heads
    joined = [[] for _ in rows]
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i, query in enumerate(queries):
            scores = [sum(a * b for a, b in zip(query[part], key[part], strict=True)) for key in keys]
            weights = softmax([score / math.sqrt(size) for score in scores])
            joined[i] += [sum(w * v[part][j] for w, v in zip(weights, values, strict=True)) for j in range(size)]
    return joined


def adapted_layer(rows, layer, heads):
    """The layer's output for a text of ``rows``; ``layer`` holds its weights by the names used here."""
    found = []
    for x, joined in zip(rows, attention(rows, layer, heads), strict=True):
        u = linear(joined, *layer["attention_out"])
        h1 = layer_norm(add(x, adapter(u, layer["adapter_1"])), *layer["attention_norm"])
        f = linear(gelu(linear(h1, *layer["feed_forward_in"])), *layer["feed_forward_out"])
        found.append(layer_norm(add(h1, adapter(f, layer["adapter_2"])), *layer["output_norm"]))
    return found
