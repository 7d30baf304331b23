"""Tables on the screen."""

from typing import Any

import click


def print_recall(results: dict[str, Any]) -> None:
    """Recall@K of the features, perhaps of the best epoch, and of raw pixels."""
    ks = [key for key in results if key.startswith("recall@")]
    if any(k.endswith("/coarse") for k in ks):
        click.echo("no fine labels: this is the recall of coarse classes")
    click.echo(f"{'':12}" + "".join(f"{k.removesuffix('/coarse'):>11}" for k in ks))
    for name, row in (
        ("last epoch" if "best" in results else "features", results),
        ("best epoch", results.get("best")),
        ("raw pixels", results["pixels"]),
    ):
        if row:
            click.echo(f"{name:12}" + "".join(f"{row[k]:>11.2%}" for k in ks))
