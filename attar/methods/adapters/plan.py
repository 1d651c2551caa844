"""Adapters: the task loss on the labelled rows; inserted modules, LayerNorms and the head move."""

from attar.config import to_table
from attar.methods.adapters.config import Adapters
from attar.methods.contract import Context
from attar.methods.tuning import encoder_name, label_stage, open_encoder
from attar.nets.deltas.adapters import adapter_names, insert_adapters
from attar.nets.deltas.format import DeltaSource
from attar.nets.selection import norm_names, train_only
from attar.training.stage import Stage


def plan(config: Adapters, ctx: Context) -> list[Stage]:
    """Put a new head on the encoder and adapters into it, and train them."""
    model, always = open_encoder(ctx)
    settings = to_table(config)
    insertion = {name: value for name, value in settings.items() if name != "norms"}
    insert_adapters(model, **insertion)
    norms = norm_names(model, first=config.drop_first) if config.norms else set()
    train_only(model, always | adapter_names(model) | norms)
    insertion["kind"] = "adapters"
    delta = DeltaSource(method="adapters", settings=settings, encoder=encoder_name(ctx), insertion=insertion)
    return [label_stage("adapters", ctx, model, delta=delta)]
