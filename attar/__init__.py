"""attar: make Transformer text encoders small and cheap to tune.

>>> import attar
>>> teacher = attar.finetune("bert-base-uncased", data="reviews.csv")         # doctest: +SKIP
>>> student = attar.distill(teacher, data="reviews.csv", method=attar.BilstmSoft())  # doctest: +SKIP
>>> student.predict(["a great film"])                                         # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

#: Public names and the modules that define them; each is imported when it is first used.
_PUBLIC = {
    "Adapters": "attar.methods.adapters.config",
    "AttarError": "attar.errors",
    "BilstmSoft": "attar.methods.bilstm_soft.config",
    "BitFit": "attar.methods.bitfit.config",
    "DataConfig": "attar.config",
    "DeltaSet": "attar.inference.delta_set",
    "DistilBert": "attar.methods.distilbert.config",
    "DistilBertPretraining": "attar.methods.distilbert.config",
    "Freezing": "attar.methods.freezing.config",
    "Full": "attar.methods.freezing.config",
    "Logits": "attar.methods.logits.config",
    "Lora": "attar.methods.lora.config",
    "MlmHead": "attar.methods.mlm_head.config",
    "Predictor": "attar.inference.predictor",
    "Tang": "attar.config",
    "TeacherConfig": "attar.config",
    "TextConfig": "attar.config",
    "TinyBert": "attar.methods.tinybert.config",
    "TinyBertAugmentation": "attar.config",
    "TinyBertPretraining": "attar.methods.tinybert.config",
    "compare_methods": "attar.compare.loop",
    "distill": "attar.api",
    "export": "attar.api",
    "finetune": "attar.api",
    "load": "attar.inference.predictor",
    "merge": "attar.api",
    "pretrain": "attar.api",
    "recommend": "attar.advice.recommend",
    "run": "attar.runner",
    "write_report": "attar.api",
}

__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'attar' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
