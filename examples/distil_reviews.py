"""Distil a sentiment model in about a minute, on the bundled reviews.

    pip install 'attar[demo]'
    python examples/distil_reviews.py

A small real encoder is fine-tuned on some of the reviews. Then two of its six layers learn from its answers, also for
the reviews whose labels nobody looked at. Everything is written to a temporary folder.
"""

import tempfile
from pathlib import Path

import attar
from attar.data.sample_reviews import sample_path
from attar.demo import encoder_path


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    # The labels of 600 reviews; the other training texts serve the student as unlabelled ones.
    data = attar.DataConfig(path=str(sample_path()), limit=600)

    teacher = attar.finetune(
        str(encoder_path()),
        data=data,
        train={"lr": 1e-4, "epochs": 1, "batch_size": 16, "max_length": 40},
        out=str(folder / "teacher"),
    )
    student = attar.distill(
        teacher,
        data=data,
        method=attar.Logits(student="layers:0,5"),
        train={"lr": 3e-4, "epochs": 2, "max_length": 40},
        out=str(folder / "student"),
    )

    for text in ("a great film with a heart", "two hours that nobody will give back to me"):
        found = student.predict([text])[0]
        print(f"{found.label:<9} {found.confidence:.2f}  {text}")
    page = attar.write_report([folder / "teacher", folder / "student"], folder / "report.html")
    print(f"report: {page}")


if __name__ == "__main__":
    main()
