"""Fine-tuning: the task loss on the labelled rows; every weight moves, or the top layers and the head do."""

from attar.config import to_table
from attar.methods.contract import Context
from attar.methods.freezing.config import Freezing, Full
from attar.methods.tuning import encoder_name, label_stage, open_encoder
from attar.nets.deltas.format import DeltaSource
from attar.nets.longer import lengthened
from attar.nets.selection import top_names, train_only
from attar.training.stage import Stage


def plan(config: Full | Freezing, ctx: Context) -> list[Stage]:
    """Put a new head on the encoder and train all of it, or its top."""
    model, always = open_encoder(ctx)
    if isinstance(config, Full):
        return [label_stage("full", ctx, lengthened(model, ctx.train.long, ctx.train.max_length))]
    train_only(model, always | top_names(model, config.layers, embeddings=config.embeddings))
    delta = DeltaSource(method="freezing", settings=to_table(config), encoder=encoder_name(ctx))
    return [label_stage("freezing", ctx, model, delta=delta)]
