"""Commands that say what there is to choose from."""

from __future__ import annotations

from kvopt import describe, instances, model_spec, objective_text, platforms
from kvopt.cli.group import main
from kvopt.cli.out import check_outputs, json_option, print_lines


@main.command("instances")
@json_option
def instances_(json_path) -> None:
    """List the named instances that --instance takes, with the largest size of each."""
    check_outputs(json_path)
    families = [instances.describe(name) for name in instances.names()]
    lines = [f"{f.name:16}  up to {f.most_accesses:.2g} accesses: {f.description}" for f in families]
    keys = ("name", "description", "most_accesses")
    records = [{key: getattr(f, key) for key in keys} for f in families]
    print_lines(lines, records, json_path)


@main.command("platforms")
@json_option
def platforms_(json_path) -> None:
    """List the platform presets with the source of each number."""
    check_outputs(json_path)
    presets = [platforms.get(name) for name in platforms.names()]
    lines = "\n\n".join("\n".join(describe.platform_lines(p)) for p in presets).split("\n")
    print_lines(lines, [describe.platform_record(p) for p in presets], json_path)


@main.command("models")
@json_option
def models_(json_path) -> None:
    """List the model presets with their sizes and sources."""
    check_outputs(json_path)
    presets = [model_spec.ModelSpec.preset(name) for name in model_spec.names()]
    lines = "\n\n".join("\n".join(describe.model_lines(m)) for m in presets).split("\n")
    print_lines(lines, [describe.model_record(m) for m in presets], json_path)


@main.command("objectives")
@json_option
def objectives_(json_path) -> None:
    """List the objectives that --objective takes, with their parameters."""
    check_outputs(json_path)
    records = [describe.objective_record(name) for name in objective_text.names()]
    lines = [f"{r['name']}({', '.join(r['parameters'])}): {r['description']}" for r in records]
    print_lines(lines, records, json_path)
