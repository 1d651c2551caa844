"""LoRA, DoRA, IA3 and SHiRA: the task loss on the labelled rows; what peft inserted and the head move."""

from attar.config import to_table
from attar.methods.contract import Context
from attar.methods.lora.config import Lora
from attar.methods.tuning import encoder_name, label_stage, open_encoder
from attar.nets.deltas.format import DeltaSource
from attar.nets.deltas.lora import insert_peft, peft_settings
from attar.nets.selection import train_only
from attar.training.stage import Stage


def plan(config: Lora, ctx: Context) -> list[Stage]:
    """Put a new head on the encoder and peft's layers into it, and train them."""
    model, always = open_encoder(ctx)
    settings = to_table(config)
    insertion = peft_settings(model, **settings)
    insert_peft(model, **insertion)
    inserted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    train_only(model, always | inserted)
    insertion["kind"] = "peft"
    delta = DeltaSource(method="lora", settings=settings, encoder=encoder_name(ctx), insertion=insertion)
    return [label_stage(config.kind, ctx, model, delta=delta)]
