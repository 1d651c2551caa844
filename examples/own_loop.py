"""Distil in a training loop of your own, with attar's pieces as plain functions.

    python examples/own_loop.py

The teacher is a small random BERT, so that nothing is downloaded; put your fine-tuned model in its place.
"""

import torch
from transformers import BertConfig, BertForSequenceClassification

from attar.nets.surgery import every_other_layer, keep_layers
from attar.objectives.logits import kl_divergence


def main() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
    teacher = BertForSequenceClassification(BertConfig(vocab_size=200, num_labels=3, **sizes)).eval()
    teacher.classifier.weight.data *= 20  # a random head hardly decides; this one does

    student = keep_layers(teacher, every_other_layer(4)).train()  # layers 0 and 3, copied bit for bit
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)

    ids = torch.randint(5, 200, (256, 16))
    with torch.inference_mode():
        answers = teacher(input_ids=ids).logits
    answers = answers.clone()  # an ordinary tensor again, which a loss may use

    for epoch in range(10):
        total = 0.0
        for rows in torch.randperm(len(ids)).split(32):
            loss = kl_divergence(student(input_ids=ids[rows]).logits, answers[rows], temperature=2.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1:>2}: KL {total / len(ids):.4f}")

    with torch.inference_mode():
        same = student.eval()(input_ids=ids).logits.argmax(-1) == answers.argmax(-1)
    print(f"the student agrees with the teacher on {same.float().mean():.0%} of the texts")


if __name__ == "__main__":
    main()
