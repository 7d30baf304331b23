"""A record as tables."""

from collections.abc import Mapping
from typing import Any

Table = list[list[str]]  # the first row is the head


def machine(record: Mapping[str, Any]) -> str:
    """The hardware, precision and versions of a record, in a line."""
    hardware = record["hardware"]
    where = f"{hardware['device']}, " if hardware["device"] != "cpu" else ""
    commit = f", commit {record['commit'][:10]}" if record["commit"] else ""
    return (
        f"{where}{hardware['cpu']}, {hardware['cores']} cores, {hardware['precision']}; "
        f"torch {record['versions']['torch']}{commit}"
    )


def speeds(record: Mapping[str, Any]) -> Table:
    """Each side: its speed, the range over the turns, its ratios and its memory."""
    compared = {base for ratios in record["ratios"].values() for base in ratios}
    baselines = [name for name in record["speeds"] if name in compared]
    several = any(":" in name for name in baselines)  # baselines of several sets
    heads = ["ratio"] if several else [f"x {name}" for name in baselines]
    devices = record.get("peak_device_mib")
    table = [["", record["unit"], "range", *heads, "MiB", *(["GPU MiB"] if devices else [])]]
    for name, speed in record["speeds"].items():
        ratios = record["ratios"].get(name, {})
        if several:
            cells = [", ".join(f"{r:.2f} x {b.split(': ')[-1]}" for b, r in ratios.items())]
        else:
            cells = [f"{ratios[b]:.2f}" if b in ratios else "" for b in baselines]
        turns = record["repeats"][name]
        memory = [f"{record['peak_host_mib'][name]:,.0f}"]
        if devices:
            memory.append(f"{devices[name]:,.0f}")
        span = f"{_figure(min(turns))} to {_figure(max(turns))}"
        table.append([name, _figure(speed), span, *cells, *memory])
    return table


def processor_time(record: Mapping[str, Any]) -> Table:
    """Of each side, milliseconds of processor time an image."""
    table = [["", "ms of a core an image", "in ours"]]
    for name, value in record["cpu_ms"].items():
        ratio = record.get("cpu_ratios", {}).get(name)
        table.append([name, _figure(value), "" if ratio is None else f"{ratio:.2f}"])
    return table


def targets(record: Mapping[str, Any]) -> Table:
    """What was aimed for on a machine of this kind, and what came out."""
    table = [["", "target", "measured", ""]]
    for line in record["targets"]:
        met = {True: "met", False: "missed", None: "no target for this machine"}[line["met"]]
        table.append([line["what"], line["target"] or "", f"{line['measured']:.3g}", met])
    return table


def growth(record: Mapping[str, Any]) -> Table:
    """Seconds and memory of a recall as its set grows."""
    table = [["", "rows", "seconds", "MiB", ""]]
    for name, lines in record["growth"].items():
        for line in lines:
            how = "measured" if line["measured"] else "extrapolated"
            seconds = _figure(line["seconds"])
            table.append([name, f"{line['rows']:,}", seconds, f"{line['host_mib']:,.0f}", how])
    return table


def compiling(record: Mapping[str, Any]) -> str:
    """What compiling took, and whether it is earned back."""
    earned = record["compile"]["earned_back_after_steps"]
    after = f"earned back after {earned:,.0f} steps" if earned else "never earned back"
    return f"compiling takes {record['compile']['seconds']:.0f} s, {after}"


def told(record: Mapping[str, Any]) -> list[str | Table]:
    """All there is to say of a record, for the screen: lines and tables."""
    about = "  ".join(f"{k} {v}" for k, v in record["settings"].items() if v is not None)
    said: list[str | Table] = [f"\n{record['benchmark']}: {about}", machine(record), speeds(record)]
    if "cpu_ms" in record:
        said += ["", processor_time(record)]
    if "compile" in record:
        said.append(compiling(record))
    if "growth" in record:
        said += [f"\nfeatures {record['growth_width']} wide", growth(record)]
    if record["targets"]:
        said += ["", targets(record)]
    return said


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
