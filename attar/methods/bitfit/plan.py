"""BitFit: the task loss on the labelled rows; only biases and the head move."""

from attar.config import to_table
from attar.methods.bitfit.config import BitFit
from attar.methods.contract import Context
from attar.methods.tuning import encoder_name, label_stage, open_encoder
from attar.nets.deltas.format import DeltaSource
from attar.nets.selection import bias_names, train_only
from attar.training.stage import Stage


def plan(config: BitFit, ctx: Context) -> list[Stage]:
    """Put a new head on the encoder and train it with the biases."""
    model, always = open_encoder(ctx)
    train_only(model, always | bias_names(model, config.biases))
    delta = DeltaSource(method="bitfit", settings=to_table(config), encoder=encoder_name(ctx))
    return [label_stage("bitfit", ctx, model, delta=delta)]
