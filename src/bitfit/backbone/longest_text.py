"""How long a text may be for a model: the rows of its table of positions; knows nothing of tasks or tokenizers."""

from torch import nn

# What the architectures call the table that is read by a token's place. Tables of distances have other names.
_TABLES = ("position_embeddings", "embed_positions", "wpe")


def maybe_get_longest(model: nn.Module) -> int | None:
    """The most pieces that a text may have; None where positions are not read from a table."""
    tables = (module for name, module in model.named_modules() if name.rpartition(".")[2] in _TABLES)
    return min((_rows(table) for table in tables if isinstance(table, nn.Embedding)), default=None)


def _rows(table: nn.Embedding) -> int:
    """Rows that a text can use: BART and OPT skip the first two, RoBERTa and MPNet those up to padding's."""
    skipped = getattr(table, "offset", None)
    if skipped is None:
        skipped = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - int(skipped)
