"""Defines which settings of a config a row reads: a change of others keeps its stored results."""

from typing import Any

from cmclrec_tf.config import ComputeConfig, Config

# Settings that only CMCLRec reads.
_CMCLREC_ONLY = {
    "model": (
        "latent",
        "encoder_blocks",
        "mapper",
        "history_path",
        "sequence",
        "simulated",
        "expert_width",
    ),
    "finetune": (
        "eta",
        "cold_share",
        "forgotten_share",
        "hidden_share",
        "cold_weight",
        "cold_decay",
        "distill",
        "contrast",
        "temperature",
        "weight_decay",
    ),
}
# Further settings that backbones, or baselines, do not read.
_UNREAD: dict[str, dict[str, tuple[str, ...]]] = {
    "backbone": {"finetune": ("feature_dropout",)},
    "baseline": {
        "model": (
            "backbone",
            "blocks",
            "heads",
            "dropout",
            "positions",
            "popularity_prior",
            "times",
        ),
        "finetune": ("softmax",),
    },
}


def read_by(config: Config, kind: str) -> dict[str, Any]:
    """Returns the settings that a row reads, as plain values.

    Args:
        config: the config of the row.
        kind: kind of the row, see `table_rows.Row`; it is no floor.
    """
    values = config.to_dict()
    del values["serve"]
    if config.compute == ComputeConfig():
        # Most results are in float32, without XLA on a CPU.
        del values["compute"]
    if not config.data.split_time:
        # Most results are of splits without a time; their settings need not name it.
        del values["data"]["split_time"]
    # Early stopping reads these; no other setting of the evaluation changes a training.
    values["evaluate"] = {"k": config.evaluate.k, **seen_items(config)}
    for part in ("pretrain", "finetune"):
        # Most results are with all users.
        if values[part]["user_share"] == 1:
            del values[part]["user_share"]
    if kind != "baseline":
        del values["baseline"]
    if kind != "cmclrec":
        del values["pretrain"]
        for part, fields in (*_CMCLREC_ONLY.items(), *_UNREAD[kind].items()):
            values[part] = {name: v for name, v in values[part].items() if name not in fields}
    if not config.model.has_expert:
        # Most results are without an expert; a width that nothing reads changes no result.
        values["model"].pop("expert_width", None)
    if not config.model.times:
        # Most results are without times.
        values["model"].pop("times", None)
    if kind == "backbone" and not config.model.popularity_prior:
        # Most results of backbones are without a prior.
        del values["model"]["popularity_prior"]
    return values


def seen_items(config: Config) -> dict[str, str]:
    """Returns `evaluate.seen_items`, unless it is the default, with which most results are."""
    return {} if config.evaluate.hides_history else {"seen_items": config.evaluate.seen_items}
