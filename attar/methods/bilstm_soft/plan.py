"""biLSTM-SOFT (Tang et al. 2019): a word-level BiLSTM regresses the teacher's logits, on real and synthetic text."""

from attar.errors import ConfigError
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bilstm_soft.objective import soft_loss
from attar.methods.bilstm_soft.student import build_student
from attar.methods.bilstm_soft.vectors import vector_source, word_vectors
from attar.methods.bilstm_soft.vocabulary import build_tokenizer, words_of
from attar.methods.contract import Context
from attar.methods.students import distil_stage
from attar.nets.loading import load_tokenizer
from attar.nets.vocabulary import whole_words
from attar.training.stage import Stage


def plan(config: BilstmSoft, ctx: Context) -> list[Stage]:
    """Build tokenizer, word vectors and student; one stage distils."""
    if ctx.task.kind == "token":
        raise ConfigError("bilstm-soft labels whole texts and pairs; for token classification use --method logits")
    teacher = ctx.teacher_bundles[0] if ctx.teacher_bundles else None
    source = vector_source(config.vectors, teacher)
    tokenizer = build_tokenizer(
        ctx.texts(),
        extra=_whole_words(source) if source and config.teacher_words else (),
        min_count=config.min_count,
        max_words=config.max_words,
        lowercase=config.lowercase,
        max_length=ctx.train.max_length,
    )
    vectors, note = word_vectors(
        config.vectors, words_of(tokenizer), width=config.width, teacher=teacher, seed=ctx.train.seed
    )
    student = build_student(config, ctx.task, tokenizer, vectors, ctx.train.seed)
    alpha = config.alpha if ctx.teacher is not None else 1.0
    loss = soft_loss(alpha=alpha, kind=ctx.task.kind, has_teacher=ctx.teacher is not None)
    return [distil_stage("distil", ctx, student, tokenizer, loss, note)]


def _whole_words(encoder: str) -> list[str]:
    """Return the whole words of an encoder's own vocabulary, in alphabetical order."""
    return sorted(set(whole_words(load_tokenizer(encoder)).values()))
